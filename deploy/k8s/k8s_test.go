// Package k8s_test holds the manifests to what they promise: that authproxy
// starts with this configuration, that nothing gets around it, and that the pod
// runs with as little as it needs.
package k8s_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"authproxy/config"
)

// A manifest is what the tests read of any of the files.
type manifest struct {
	APIVersion string         `yaml:"apiVersion"`
	Kind       string         `yaml:"kind"`
	Metadata   map[string]any `yaml:"metadata"`
}

// A kustomization says which files make the whole.
type kustomization struct {
	Resources          []string    `yaml:"resources"`
	ConfigMapGenerator []generator `yaml:"configMapGenerator"`
	SecretGenerator    []generator `yaml:"secretGenerator"`
	Images             []struct {
		Name string `yaml:"name"`
	} `yaml:"images"`
}

type generator struct {
	Name  string   `yaml:"name"`
	Files []string `yaml:"files"`
}

type deployment struct {
	Spec struct {
		Replicas int `yaml:"replicas"`
		Template struct {
			Spec podSpec `yaml:"spec"`
		} `yaml:"template"`
	} `yaml:"spec"`
}

type podSpec struct {
	AutomountServiceAccountToken  *bool       `yaml:"automountServiceAccountToken"`
	EnableServiceLinks            *bool       `yaml:"enableServiceLinks"`
	TerminationGracePeriodSeconds int         `yaml:"terminationGracePeriodSeconds"`
	HostNetwork                   bool        `yaml:"hostNetwork"`
	ShareProcessNamespace         bool        `yaml:"shareProcessNamespace"`
	SecurityContext               podSecurity `yaml:"securityContext"`
	InitContainers                []container `yaml:"initContainers"`
	Containers                    []container `yaml:"containers"`
	Volumes                       []volume    `yaml:"volumes"`
}

type podSecurity struct {
	FSGroup int `yaml:"fsGroup"`
}

type volume struct {
	Name      string `yaml:"name"`
	ConfigMap struct {
		Name string `yaml:"name"`
	} `yaml:"configMap"`
	Secret struct {
		SecretName string `yaml:"secretName"`
	} `yaml:"secret"`
}

type container struct {
	Name            string           `yaml:"name"`
	Image           string           `yaml:"image"`
	RestartPolicy   string           `yaml:"restartPolicy"`
	Command         []string         `yaml:"command"`
	Args            []string         `yaml:"args"`
	Env             []map[string]any `yaml:"env"`
	Ports           []port           `yaml:"ports"`
	StartupProbe    probe            `yaml:"startupProbe"`
	LivenessProbe   probe            `yaml:"livenessProbe"`
	ReadinessProbe  probe            `yaml:"readinessProbe"`
	SecurityContext security         `yaml:"securityContext"`
	VolumeMounts    []mount          `yaml:"volumeMounts"`
	Resources       struct {
		Limits map[string]string `yaml:"limits"`
	} `yaml:"resources"`
	Lifecycle struct {
		PreStop struct {
			Sleep struct {
				Seconds int `yaml:"seconds"`
			} `yaml:"sleep"`
		} `yaml:"preStop"`
	} `yaml:"lifecycle"`
}

type port struct {
	Name          string `yaml:"name"`
	ContainerPort int    `yaml:"containerPort"`
}

type probe struct {
	HTTPGet struct {
		Path string `yaml:"path"`
		Port string `yaml:"port"`
	} `yaml:"httpGet"`
}

type security struct {
	RunAsNonRoot             bool  `yaml:"runAsNonRoot"`
	RunAsUser                int   `yaml:"runAsUser"`
	RunAsGroup               int   `yaml:"runAsGroup"`
	AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
	ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
	Privileged               bool  `yaml:"privileged"`
	Capabilities             struct {
		Add  []string `yaml:"add"`
		Drop []string `yaml:"drop"`
	} `yaml:"capabilities"`
	SeccompProfile struct {
		Type string `yaml:"type"`
	} `yaml:"seccompProfile"`
}

type mount struct {
	Name      string `yaml:"name"`
	MountPath string `yaml:"mountPath"`
	SubPath   string `yaml:"subPath"`
	ReadOnly  bool   `yaml:"readOnly"`
}

type service struct {
	Spec struct {
		Type  string `yaml:"type"`
		Ports []struct {
			TargetPort string `yaml:"targetPort"`
		} `yaml:"ports"`
	} `yaml:"spec"`
}

type disruptionBudget struct {
	Spec struct {
		MinAvailable   any `yaml:"minAvailable"`
		MaxUnavailable int `yaml:"maxUnavailable"`
	} `yaml:"spec"`
}

type networkPolicy struct {
	Spec struct {
		PolicyTypes []string `yaml:"policyTypes"`
		Ingress     []struct {
			From  []map[string]any `yaml:"from"`
			Ports []struct {
				Port string `yaml:"port"`
			} `yaml:"ports"`
		} `yaml:"ingress"`
	} `yaml:"spec"`
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// parse reads a file that must hold one YAML document.
func parse[T any](t *testing.T, name string) T {
	t.Helper()
	var value T
	d := yaml.NewDecoder(bytes.NewReader(read(t, name)))
	if err := d.Decode(&value); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	var more any
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		t.Fatalf("%s holds more than one document", name)
	}
	return value
}

func pod(t *testing.T) podSpec {
	t.Helper()
	return parse[deployment](t, "base/deployment.yaml").Spec.Template.Spec
}

// sidecar returns the container of authproxy.
func sidecar(t *testing.T) container {
	t.Helper()
	p := pod(t)
	if len(p.InitContainers) != 1 || p.InitContainers[0].Name != "authproxy" {
		t.Fatalf("the init containers are not authproxy alone: %+v", p.InitContainers)
	}
	return p.InitContainers[0]
}

// load reads config.yaml as authproxy does in the pod. Secrets come from read,
// by the name of their file in the Secret.
func load(t *testing.T, secret func(key string) []byte) (*config.Config, []config.Warning, error) {
	t.Helper()
	args := sidecar(t).Args
	return config.Load(config.Source{Args: args, ReadFile: func(name string) ([]byte, error) {
		dir, key := path.Split(name)
		switch mounted(t, path.Clean(dir)) {
		case "authproxy-config":
			return os.ReadFile(fileOf(t, parse[kustomization](t, "kustomization.yaml").ConfigMapGenerator, "authproxy-config", key))
		case "authproxy-secrets":
			fileOf(t, parse[kustomization](t, "kustomization.yaml").SecretGenerator, "authproxy-secrets", key)
			return secret(key), nil
		}
		return nil, fmt.Errorf("nothing is mounted at %s", dir)
	}})
}

// mounted returns the name of the ConfigMap or Secret that the sidecar sees at
// dir, "" if there is none.
func mounted(t *testing.T, dir string) string {
	t.Helper()
	for _, m := range sidecar(t).VolumeMounts {
		for _, v := range pod(t).Volumes {
			if m.MountPath == dir && v.Name == m.Name {
				return v.ConfigMap.Name + v.Secret.SecretName
			}
		}
	}
	return ""
}

// fileOf returns the file that becomes key of the generated object.
func fileOf(t *testing.T, generators []generator, name, key string) string {
	t.Helper()
	for _, g := range generators {
		for _, file := range g.Files {
			if g.Name == name && path.Base(file) == key {
				return file
			}
		}
	}
	t.Fatalf("kustomization.yaml generates no %s with the key %s", name, key)
	return ""
}

// realSecrets returns what an operator would put there.
func realSecrets(key string) []byte {
	if key == "cookie_keys" {
		return []byte(base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef")) + "\n")
	}
	return []byte("a-secret-of-a-provider")
}

func loaded(t *testing.T) *config.Config {
	t.Helper()
	c, warnings, err := load(t, realSecrets)
	if err != nil {
		t.Fatalf("authproxy would not start: %v", err)
	}
	if len(warnings) > 0 {
		t.Errorf("authproxy warns: %v", warnings)
	}
	return c
}

func TestAuthproxyStartsWithThisConfiguration(t *testing.T) {
	c := loaded(t)
	if len(c.Cookie.Keys) != 1 || c.Providers[0].ClientSecret != "a-secret-of-a-provider" {
		t.Error("the secrets are not read from their files")
	}
	if len(c.SignIn.AllowedDomains)+len(c.SignIn.AllowedEmails)+len(c.SignIn.AllowedGroups) == 0 {
		t.Error("sign_in names nobody, so that the provider decides alone")
	}
}

func TestAuthproxyDoesNotStartWithAPlaceholder(t *testing.T) {
	tests := []struct {
		name, placeholder, setting string
	}{
		{"cookie keys", "cookie_keys", "cookie.keys_file"},
		{"client secret", "client_secret", "client_secret"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := load(t, func(key string) []byte {
				if key == tt.placeholder {
					return read(t, filepath.Join("secrets", key))
				}
				return realSecrets(key)
			})
			if err == nil || !strings.Contains(err.Error(), tt.setting) {
				t.Errorf("got %v, want an error that names %s", err, tt.setting)
			}
		})
	}
}

func TestEveryManifestIsUsedAndNamed(t *testing.T) {
	for _, dir := range []string{".", "base"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		listed := parse[kustomization](t, filepath.Join(dir, "kustomization.yaml"))
		for _, file := range files {
			name := filepath.Base(file)
			if name == "kustomization.yaml" || name == "config.yaml" {
				continue
			}
			m := parse[manifest](t, file)
			if m.APIVersion == "" || m.Kind == "" || m.Metadata["name"] == nil {
				t.Errorf("%s is no manifest: %+v", file, m)
			}
			if !slices.Contains(listed.Resources, name) {
				t.Errorf("%s is not in the kustomization beside it", file)
			}
		}
		for _, name := range listed.Resources {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				t.Errorf("%s/kustomization.yaml: %v", dir, err)
			}
		}
	}
}

func TestTheImageIsTheOneToReplace(t *testing.T) {
	images := parse[kustomization](t, "kustomization.yaml").Images
	if len(images) != 1 || images[0].Name != sidecar(t).Image {
		t.Errorf("kustomization.yaml replaces %v, the sidecar's image is %q", images, sidecar(t).Image)
	}
}

func TestAuthproxyIsANativeSidecar(t *testing.T) {
	if got := sidecar(t).RestartPolicy; got != "Always" {
		t.Errorf("restartPolicy is %q, want Always: otherwise the pod waits for authproxy to end", got)
	}
}

func TestPortsAreThoseThatAreListenedOn(t *testing.T) {
	c := loaded(t)
	host, adminPort, err := net.SplitHostPort(c.Admin.Listen)
	if err != nil {
		t.Fatal(err)
	}
	if host != "" {
		t.Errorf("admin.listen is on %q, where the kubelet's probes cannot come", host)
	}
	_, httpPort, err := net.SplitHostPort(c.Listen)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"http": httpPort, "admin": adminPort}
	got := map[string]string{}
	for _, p := range sidecar(t).Ports {
		got[p.Name] = fmt.Sprint(p.ContainerPort)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ports (-config +deployment):\n%s", diff)
	}
}

func TestProbesAskTheAdminPort(t *testing.T) {
	s := sidecar(t)
	tests := []struct {
		name  string
		probe probe
		path  string
	}{
		{"startup", s.StartupProbe, "/healthz"},
		{"liveness", s.LivenessProbe, "/healthz"},
		{"readiness", s.ReadinessProbe, "/readyz"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.probe.HTTPGet; got.Path != tt.path || got.Port != "admin" {
				t.Errorf("asks %s at %s, want %s at admin", got.Path, got.Port, tt.path)
			}
		})
	}
}

func TestContainersRunWithAsLittleAsTheyNeed(t *testing.T) {
	p := pod(t)
	if p.AutomountServiceAccountToken == nil || *p.AutomountServiceAccountToken {
		t.Error("the pod gets a token of the cluster")
	}
	if p.EnableServiceLinks == nil || *p.EnableServiceLinks {
		t.Error("service links collide with AUTHPROXY_* settings")
	}
	if p.HostNetwork || p.ShareProcessNamespace {
		t.Error("the pod shares the node's network, or its processes among containers")
	}
	for _, c := range slices.Concat(p.InitContainers, p.Containers) {
		t.Run(c.Name, func(t *testing.T) {
			for _, problem := range securityProblems(c) {
				t.Error(problem)
			}
		})
	}
}

func securityProblems(c container) []string {
	s := c.SecurityContext
	checks := []struct {
		ok      bool
		problem string
	}{
		{s.RunAsNonRoot && s.RunAsUser != 0 && s.RunAsGroup != 0, "may run as root"},
		{s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation, "may gain privileges"},
		{s.ReadOnlyRootFilesystem, "may change its own files"},
		{!s.Privileged, "is privileged"},
		{slices.Equal(s.Capabilities.Drop, []string{"ALL"}) && len(s.Capabilities.Add) == 0, "has capabilities"},
		{s.SeccompProfile.Type == "RuntimeDefault", "may make every system call"},
		{c.Resources.Limits["memory"] != "", "may take all memory of the node"},
	}
	var problems []string
	for _, check := range checks {
		if !check.ok {
			problems = append(problems, check.problem)
		}
	}
	return problems
}

func TestTheUserIsTheImages(t *testing.T) {
	m := regexp.MustCompile(`(?m)^USER (\d+):(\d+)$`).FindStringSubmatch(string(read(t, "../../Dockerfile")))
	if m == nil {
		t.Fatal("the Dockerfile names no user by number")
	}
	s := sidecar(t).SecurityContext
	if got := []string{fmt.Sprint(s.RunAsUser), fmt.Sprint(s.RunAsGroup)}; !slices.Equal(got, m[1:]) {
		t.Errorf("runs as %v, the image's user is %v", got, m[1:])
	}
	if app := pod(t).Containers[0].SecurityContext.RunAsUser; app == s.RunAsUser {
		t.Errorf("the application runs as %d too, and may read what is authproxy's", app)
	}
}

func TestSecretsAreFilesThatCanChange(t *testing.T) {
	for _, m := range sidecar(t).VolumeMounts {
		if m.SubPath != "" || !m.ReadOnly {
			t.Errorf("mount %s: subPath %q, readOnly %t; want none and true", m.Name, m.SubPath, m.ReadOnly)
		}
	}
	if group := pod(t).SecurityContext.FSGroup; group != sidecar(t).SecurityContext.RunAsGroup {
		t.Errorf("files belong to the group %d, which authproxy is not in", group)
	}
	for _, env := range sidecar(t).Env {
		from, _ := env["valueFrom"].(map[string]any)
		if from["secretKeyRef"] != nil || strings.HasPrefix(fmt.Sprint(env["name"]), "AUTHPROXY_") {
			t.Errorf("%v comes by the environment, which every process of the container shows", env["name"])
		}
	}
	for _, m := range pod(t).Containers[0].VolumeMounts {
		if strings.HasPrefix(m.Name, "authproxy") {
			t.Errorf("the application sees %s", m.Name)
		}
	}
}

func TestTheApplicationListensOnLoopbackOnly(t *testing.T) {
	apps := pod(t).Containers
	if len(apps) != 1 {
		t.Fatalf("%d applications, want 1", len(apps))
	}
	upstream := loaded(t).Upstream.URL
	if upstream.Hostname() != "127.0.0.1" {
		t.Errorf("the upstream is %s, which is not in the pod", upstream.Host)
	}
	want := fmt.Sprintf("ThreadingHTTPServer((%q, %s), Show)", upstream.Hostname(), upstream.Port())
	if got := strings.Join(apps[0].Args, "\n"); !strings.Contains(got, want) || strings.Contains(got, "0.0.0.0") {
		t.Errorf("the application does not listen at %s only:\n%s", upstream.Host, got)
	}
	if len(apps[0].Ports) != 0 {
		t.Errorf("the application declares the ports %v", apps[0].Ports)
	}
}

func TestTheServiceLeadsToAuthproxyOnly(t *testing.T) {
	s := parse[service](t, "base/service.yaml").Spec
	if len(s.Ports) != 1 || s.Ports[0].TargetPort != "http" {
		t.Errorf("the ports are %v, want one that leads to http", s.Ports)
	}
	if s.Type != "" && s.Type != "ClusterIP" {
		t.Errorf("the type is %s, which goes around the ingress", s.Type)
	}
}

func TestTheNetworkPolicyNamesWhoComesIn(t *testing.T) {
	s := parse[networkPolicy](t, "base/networkpolicy.yaml").Spec
	if !slices.Contains(s.PolicyTypes, "Ingress") {
		t.Error("the policy does not restrict who comes in")
	}
	var got []string
	for _, rule := range s.Ingress {
		if len(rule.From) == 0 {
			t.Errorf("anybody may reach %v", rule.Ports)
		}
		for _, p := range rule.Ports {
			got = append(got, p.Port)
		}
	}
	if diff := cmp.Diff([]string{"http", "admin"}, got); diff != "" {
		t.Errorf("ports that can be reached (-want +got):\n%s", diff)
	}
}

func TestADrainIsNotBlocked(t *testing.T) {
	s := parse[disruptionBudget](t, "base/poddisruptionbudget.yaml").Spec
	if s.MinAvailable != nil || s.MaxUnavailable < 1 {
		t.Errorf("minAvailable %v, maxUnavailable %d: a drain would wait for ever", s.MinAvailable, s.MaxUnavailable)
	}
}

func TestThePodHasTimeToEnd(t *testing.T) {
	c, p := loaded(t), pod(t)
	need := time.Duration(p.Containers[0].Lifecycle.PreStop.Sleep.Seconds)*time.Second + c.Shutdown.Delay + c.Shutdown.Timeout
	if grace := time.Duration(p.TerminationGracePeriodSeconds) * time.Second; grace < need+10*time.Second {
		t.Errorf("%s are left, want %s and ten seconds for the application", grace, need)
	}
	if p.Containers[0].Lifecycle.PreStop.Sleep.Seconds == 0 {
		t.Error("the application ends while load balancers still send requests")
	}
}
