// Package examples_test holds the examples to what can be checked without their
// ingress: that authproxy starts with each configuration, that the files are what
// the ingress reads, and that all of them say the same. nginx, Caddy and HAProxy run
// with them in package e2e.
package examples_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	upstreamsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"github.com/goccy/go-yaml"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"authproxy/config"
)

// configurations returns every authproxy.yaml, loaded as authproxy does it.
func configurations(t *testing.T) map[string]*config.Config {
	t.Helper()
	loaded := map[string]*config.Config{}
	for _, name := range filesNamed(t, "authproxy.yaml") {
		c, warnings, err := config.Load(config.Source{Args: []string{"--config", name}, ReadFile: func(path string) ([]byte, error) {
			switch filepath.Base(path) {
			case "authproxy.yaml":
				return os.ReadFile(path)
			case "keys", "cookie_keys":
				return []byte(base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef")) + "\n"), nil
			case "client_secret":
				return []byte("a-secret-of-a-provider"), nil
			}
			return nil, fs.ErrNotExist
		}})
		if err != nil || len(warnings) > 0 {
			t.Fatalf("%s: %v, warnings %v", name, err, warnings)
		}
		loaded[filepath.Dir(name)] = c
	}
	return loaded
}

// filesNamed returns the files with this name, or with this ending.
func filesNamed(t *testing.T, name string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, name) {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("files named %s: %v, %v", name, files, err)
	}
	return files
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestAuthproxyStartsWithEachConfiguration(t *testing.T) {
	configs := configurations(t)
	for dir, c := range configs {
		if c.Upstream != nil || len(c.TrustedProxies) == 0 {
			t.Errorf("%s: upstream %v, trusted_proxies %v; want none and the ingress", dir, c.Upstream, c.TrustedProxies)
		}
	}
	if len(configs) < 9 {
		t.Errorf("%d configurations, want one for each ingress", len(configs))
	}
}

// TestEachIngressCopiesEveryHeader: of a header that is not copied, the application
// gets what the client sent.
func TestEachIngressCopiesEveryHeader(t *testing.T) {
	files := map[string]string{ // and the configuration beside it
		"nginx/app.example.com.conf": "nginx", "caddy/Caddyfile": "caddy", "caddy/Caddyfile.short": "caddy", "haproxy/authproxy.lua": "haproxy",
		"traefik/dynamic.yaml": "traefik", "traefik/kubernetes/traefik.yaml": "traefik/kubernetes", "ingress-nginx/ingress.yaml": "ingress-nginx",
	}
	configs := configurations(t)
	for file, dir := range files {
		text := strings.ToLower(read(t, file))
		names := []string{"Authorization"}
		for name := range configs[dir].Identity.Headers {
			names = append(names, name)
		}
		if len(names) < 6 {
			t.Fatalf("%s: the headers are %v, want the default ones", dir, names)
		}
		for _, name := range names {
			if !strings.Contains(text, strings.ToLower(name)) {
				t.Errorf("%s does not copy %s", file, name)
			}
		}
	}
}

// TestEachIngressTakesOutWhatApplicationsBelieve, as authproxy does where it is the
// proxy. Caddy and HAProxy take out by beginnings, and are held to it in package e2e;
// over gRPC authproxy tells Envoy.
func TestEachIngressTakesOutWhatApplicationsBelieve(t *testing.T) {
	files := map[string]string{ // and the configuration beside it
		"nginx/app.example.com.conf": "nginx", "ingress-nginx/ingress.yaml": "ingress-nginx", "envoy/envoy.yaml": "envoy",
		"traefik/dynamic.yaml": "traefik", "traefik/kubernetes/traefik.yaml": "traefik/kubernetes",
	}
	believed := []string{
		"X-Original-URL", "X-Original-URI", "X-Original-Method", "X-Rewrite-URL", "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override",
		"X-Auth-Request-User", "X-Auth-Request-Email", "X-Auth-Request-Groups", "X-Auth-Request-Preferred-Username", "X-Auth-Request-Access-Token",
		"Forwarded", "X-Client-IP", "True-Client-IP",
	}
	configs := configurations(t)
	for file, dir := range files {
		names := append(slices.Clone(believed), configs[dir].Identity.Strip...)
		if len(names) < len(believed)+6 {
			t.Fatalf("%s: identity.strip is %v, want the default", dir, configs[dir].Identity.Strip)
		}
		text := strings.ToLower(read(t, file))
		for _, name := range names {
			word := regexp.MustCompile(`[^\w-]` + regexp.QuoteMeta(strings.ToLower(name)) + `[^\w-]`)
			if !strings.HasSuffix(name, "*") && !word.MatchString(text) {
				t.Errorf("%s leaves %s", file, name)
			}
		}
	}
}

// TestTheDocumentationQuotesTheExamples: what is there to copy is what is tested.
func TestTheDocumentationQuotesTheExamples(t *testing.T) {
	pages, err := filepath.Glob("../../docs/ingress/*.md")
	if err != nil || len(pages) < 9 {
		t.Fatalf("the pages are %v, %v; want one for each ingress", pages, err)
	}
	fence := regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	for _, page := range pages {
		text := read(t, page)
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s leads to %s, which is not there", page, m[1])
			}
		}
		dir := strings.TrimSuffix(filepath.Base(page), ".md")
		for _, m := range fence.FindAllStringSubmatch(text, -1) {
			if m[1] != "sh" && !quotes(t, dir, m[2]) {
				t.Errorf("%s shows what is in no file of deploy/examples/%s:\n%s", page, dir, m[2])
			}
		}
	}
}

// quotes says whether a file of the folder holds text.
func quotes(t *testing.T, dir, text string) bool {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		return !e.IsDir() && strings.Contains(read(t, filepath.Join(dir, e.Name())), text)
	})
}

// A traefikFile is what the example uses of Traefik's dynamic configuration.
type traefikFile struct {
	HTTP struct {
		Routers map[string]struct {
			Rule        string
			EntryPoints []string `yaml:"entryPoints"`
			Middlewares []string
			Service     string
			TLS         map[string]any
		}
		Middlewares map[string]traefikMiddleware
		Services    map[string]struct {
			LoadBalancer struct{ Servers []struct{ URL string } } `yaml:"loadBalancer"`
		}
	}
	TLS struct {
		Certificates []struct {
			CertFile string `yaml:"certFile"`
			KeyFile  string `yaml:"keyFile"`
		}
	}
}

type traefikMiddleware struct {
	ForwardAuth struct {
		Address                  string
		TrustForwardHeader       *bool    `yaml:"trustForwardHeader"`
		AuthResponseHeaders      []string `yaml:"authResponseHeaders"`
		AddAuthCookiesToResponse []string `yaml:"addAuthCookiesToResponse"`
	} `yaml:"forwardAuth"`
	Headers struct {
		CustomRequestHeaders map[string]string `yaml:"customRequestHeaders"`
	}
}

func TestTraefikAsksAboutEverythingButOurPages(t *testing.T) {
	var file traefikFile
	if err := yaml.UnmarshalWithOptions([]byte(read(t, "traefik/dynamic.yaml")), &file, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	for name, router := range file.HTTP.Routers {
		asks := slices.Contains(router.Middlewares, "authproxy")
		own := strings.Contains(router.Rule, "PathPrefix(`/auth/`) && !PathPrefix(`/auth/verify/`)")
		if asks == own || own != (router.Service == "authproxy") {
			t.Errorf("router %s: asks %t, own pages %t, leads to %s", name, asks, own, router.Service)
		}
		if _, ok := file.HTTP.Services[router.Service]; !ok {
			t.Errorf("router %s leads to %s, which is not there", name, router.Service)
		}
		for _, m := range router.Middlewares {
			if _, ok := file.HTTP.Middlewares[m]; !ok {
				t.Errorf("router %s has the middleware %s, which is not there", name, m)
			}
		}
	}
	expectForwardAuth(t, "traefik/dynamic.yaml", file.HTTP.Middlewares["authproxy"])
}

// expectForwardAuth fails unless the middleware is as safe as it can be.
func expectForwardAuth(t *testing.T, file string, m traefikMiddleware) {
	t.Helper()
	f := m.ForwardAuth
	if !strings.HasSuffix(f.Address, ":4180/auth/verify/forward") || f.TrustForwardHeader == nil || *f.TrustForwardHeader {
		t.Errorf("%s: address %s, trustForwardHeader %v; want the endpoint and false", file, f.Address, f.TrustForwardHeader)
	}
	// Traefik hands on the cookies that it is told by name.
	if want := []string{"__Host-authproxy_session"}; !slices.Equal(f.AddAuthCookiesToResponse, want) {
		t.Errorf("%s: addAuthCookiesToResponse %v, want %v", file, f.AddAuthCookiesToResponse, want)
	}
}

func TestEnvoyReadsTheBootstraps(t *testing.T) {
	for file, overGRPC := range map[string]bool{"envoy/envoy.yaml": false, "envoy/envoy-grpc.yaml": true} {
		t.Run(file, func(t *testing.T) {
			var bootstrap bootstrapv3.Bootstrap
			readProto(t, file, &bootstrap)
			manager := connectionManager(t, &bootstrap)
			filter := &extauthzv3.ExtAuthz{}
			unpack(t, manager.HttpFilters[0].GetTypedConfig(), filter)
			if filter.FailureModeAllow || (filter.GetGrpcService() != nil) != overGRPC {
				t.Errorf("failure_mode_allow is %t, over gRPC %t", filter.FailureModeAllow, filter.GetGrpcService() != nil)
			}
			for _, c := range bootstrap.StaticResources.Clusters {
				for _, packed := range c.TypedExtensionProtocolOptions {
					unpack(t, packed, &upstreamsv3.HttpProtocolOptions{})
				}
			}
			for _, r := range manager.GetRouteConfig().VirtualHosts[0].Routes {
				expectRoute(t, r)
			}
		})
	}
}

// TestEnvoyAsksWithEveryHeaderThatCounts: of one that is not on the list, the decision
// does not know, and of the methods' an application may.
func TestEnvoyAsksWithEveryHeaderThatCounts(t *testing.T) {
	var bootstrap bootstrapv3.Bootstrap
	readProto(t, "envoy/envoy.yaml", &bootstrap)
	filter := &extauthzv3.ExtAuthz{}
	unpack(t, connectionManager(t, &bootstrap).HttpFilters[0].GetTypedConfig(), filter)
	allowed := func(name string) bool {
		return slices.ContainsFunc(filter.GetAllowedHeaders().GetPatterns(), func(p *matcherv3.StringMatcher) bool {
			return p.GetExact() == name || p.GetPrefix() != "" && strings.HasPrefix(name, p.GetPrefix())
		})
	}
	for _, name := range []string{
		"cookie", "x-forwarded-for", "x-request-id", // who it is; Authorization comes in any case
		"accept", "x-requested-with", "hx-request", "upgrade", "sec-fetch-mode", "sec-fetch-dest", "sec-purpose", "purpose", // what it is
		"origin", "sec-websocket-key", "access-control-request-method", // whose it is
		"x-http-method-override", "x-http-method", "x-method-override", // what it is to the application
	} {
		if !allowed(name) {
			t.Errorf("%s is not in allowed_headers", name)
		}
	}
}

// readProto reads a YAML file as the message m, and fails for what Envoy refuses:
// unknown names, wrong types, and what the message's rules forbid.
func readProto(t *testing.T, file string, m interface {
	proto.Message
	ValidateAll() error
}) {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(read(t, file)))
	if err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal(data, m); err != nil {
		t.Fatal(err)
	}
	if err := m.ValidateAll(); err != nil {
		t.Error(err)
	}
}

// unpack reads what is packed as the message m, by the rules of readProto.
func unpack(t *testing.T, packed *anypb.Any, m interface {
	proto.Message
	ValidateAll() error
}) {
	t.Helper()
	if err := packed.UnmarshalTo(m); err != nil {
		t.Fatal(err)
	}
	if err := m.ValidateAll(); err != nil {
		t.Error(err)
	}
}

// connectionManager returns the one of the one listener, which speaks TLS.
func connectionManager(t *testing.T, b *bootstrapv3.Bootstrap) *hcmv3.HttpConnectionManager {
	t.Helper()
	listeners := b.StaticResources.Listeners
	if len(listeners) != 1 || len(listeners[0].FilterChains) != 1 {
		t.Fatalf("%d listeners, want one with one filter chain", len(listeners))
	}
	chain := listeners[0].FilterChains[0]
	unpack(t, chain.TransportSocket.GetTypedConfig(), &tlsv3.DownstreamTlsContext{})
	manager := &hcmv3.HttpConnectionManager{}
	unpack(t, chain.Filters[0].GetTypedConfig(), manager)
	return manager
}

// expectRoute fails unless the route is asked about, or leads to authproxy's own
// pages, or nowhere.
func expectRoute(t *testing.T, r *routev3.Route) {
	t.Helper()
	asked := true
	if packed := r.TypedPerFilterConfig["envoy.filters.http.ext_authz"]; packed != nil {
		perRoute := &extauthzv3.ExtAuthzPerRoute{}
		unpack(t, packed, perRoute)
		asked = !perRoute.GetDisabled()
	}
	prefix, cluster := r.Match.GetPrefix(), r.GetRoute().GetCluster()
	switch {
	case prefix == "/auth/verify/" && r.GetDirectResponse().GetStatus() == http.StatusNotFound:
	case prefix == "/auth/" && cluster == "authproxy" && !asked:
	case prefix == "/" && cluster == "application" && asked:
	default:
		t.Errorf("the route %s leads to %q, asked about: %t", prefix, cluster, asked)
	}
}

// An object is any of Kubernetes.
type object struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct {
		Name, Namespace string
		Annotations     map[string]string
	}
	Spec map[string]any
}

// objects returns the documents of a file.
func objects(t *testing.T, file string) []object {
	t.Helper()
	var all []object
	for d := yaml.NewDecoder(bytes.NewReader([]byte(read(t, file)))); ; {
		var o object
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, o)
	}
}

// TestEveryManifestIsUsedAndNamed: with a kind that is known here, and by the
// kustomization beside it.
func TestEveryManifestIsUsedAndNamed(t *testing.T) {
	known := []string{
		"v1/Namespace", "v1/Service", "apps/v1/Deployment", "policy/v1/PodDisruptionBudget", "networking.k8s.io/v1/NetworkPolicy", "networking.k8s.io/v1/Ingress",
		"traefik.io/v1alpha1/Middleware", "traefik.io/v1alpha1/IngressRoute",
		"security.istio.io/v1/AuthorizationPolicy", "networking.istio.io/v1/Gateway", "networking.istio.io/v1/VirtualService",
		"gateway.networking.k8s.io/v1/Gateway", "gateway.networking.k8s.io/v1/HTTPRoute", "gateway.networking.k8s.io/v1beta1/ReferenceGrant",
		"gateway.envoyproxy.io/v1alpha1/SecurityPolicy", "gateway.envoyproxy.io/v1alpha1/ClientTrafficPolicy",
	}
	for _, name := range filesNamed(t, "kustomization.yaml") {
		var k struct{ Resources []string }
		if err := yaml.Unmarshal([]byte(read(t, name)), &k); err != nil {
			t.Fatal(err)
		}
		for _, resource := range k.Resources {
			path := filepath.Join(filepath.Dir(name), resource)
			if info, err := os.Stat(path); err != nil || info.IsDir() {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				continue
			}
			for _, o := range objects(t, path) {
				if !slices.Contains(known, o.APIVersion+"/"+o.Kind) || o.Metadata.Name == "" {
					t.Errorf("%s holds a %s/%s named %q", path, o.APIVersion, o.Kind, o.Metadata.Name)
				}
			}
		}
	}
}

// find returns the object of a kind and name in a file.
func find(t *testing.T, file, kind, name string) object {
	t.Helper()
	for _, o := range objects(t, file) {
		if o.Kind == kind && o.Metadata.Name == name {
			return o
		}
	}
	t.Fatalf("%s holds no %s called %s", file, kind, name)
	return object{}
}

// spec reads o's spec as a T, which must know all names in it.
func spec[T any](t *testing.T, o object) T {
	t.Helper()
	text, err := yaml.Marshal(o.Spec)
	if err != nil {
		t.Fatal(err)
	}
	var value T
	if err := yaml.UnmarshalWithOptions(text, &value, yaml.Strict()); err != nil {
		t.Fatalf("%s %s: %v", o.Kind, o.Metadata.Name, err)
	}
	return value
}

func TestTheManifestsFailClosed(t *testing.T) {
	expectForwardAuth(t, "traefik/kubernetes", spec[traefikMiddleware](t, find(t, "traefik/kubernetes/traefik.yaml", "Middleware", "authproxy")))

	policy := spec[struct {
		TargetRefs []map[string]string `yaml:"targetRefs"`
		ExtAuth    struct {
			FailOpen *bool `yaml:"failOpen"`
			GRPC     struct {
				BackendRefs []map[string]any `yaml:"backendRefs"`
			}
		} `yaml:"extAuth"`
	}](t, find(t, "envoy-gateway/gateway.yaml", "SecurityPolicy", "application"))
	if policy.ExtAuth.FailOpen == nil || *policy.ExtAuth.FailOpen || len(policy.ExtAuth.GRPC.BackendRefs) != 1 || policy.TargetRefs[0]["name"] != "application" {
		t.Errorf("Envoy Gateway's policy is %+v", policy)
	}

	mesh := spec[struct {
		MeshConfig struct {
			ExtensionProviders []struct {
				Name string
				GRPC struct {
					Service       string
					Port          int
					Timeout       string
					FailOpen      *bool  `yaml:"failOpen"`
					StatusOnError string `yaml:"statusOnError"`
				} `yaml:"envoyExtAuthzGrpc"`
			} `yaml:"extensionProviders"`
			PathNormalization struct{ Normalization string } `yaml:"pathNormalization"`
		} `yaml:"meshConfig"`
	}](t, objects(t, "istio/mesh.yaml")[0])
	provider := mesh.MeshConfig.ExtensionProviders[0]
	asked := find(t, "istio/istio.yaml", "AuthorizationPolicy", "authproxy").Spec
	if provider.GRPC.FailOpen == nil || *provider.GRPC.FailOpen || asked["action"] != "CUSTOM" || asked["provider"].(map[string]any)["name"] != provider.Name {
		t.Errorf("Istio's provider is %+v, asked by %v", provider, asked)
	}

	annotations := find(t, "ingress-nginx/ingress.yaml", "Ingress", "application").Metadata.Annotations
	if !strings.HasSuffix(annotations["nginx.ingress.kubernetes.io/auth-url"], ":4180/auth/verify/nginx") {
		t.Errorf("ingress-nginx asks %q", annotations["nginx.ingress.kubernetes.io/auth-url"])
	}
	for name := range find(t, "ingress-nginx/ingress.yaml", "Ingress", "authproxy").Metadata.Annotations {
		if strings.HasPrefix(name, "nginx.ingress.kubernetes.io/auth-") {
			t.Errorf("authproxy's own pages are asked about: %s", name)
		}
	}
}

// TestOnlyTheIngressReachesAuthproxy: trusted_proxies names all pods.
func TestOnlyTheIngressReachesAuthproxy(t *testing.T) {
	base := find(t, "kubernetes/networkpolicy.yaml", "NetworkPolicy", "authproxy").Spec
	if base["ingress"] != nil || !slices.Contains(base["policyTypes"].([]any), any("Ingress")) {
		t.Errorf("the base lets somebody in: %v", base)
	}
	for _, file := range []string{"ingress-nginx/ingress.yaml", "traefik/kubernetes/traefik.yaml", "istio/istio.yaml", "envoy-gateway/gateway.yaml"} {
		allowed := spec[struct {
			PodSelector map[string]any `yaml:"podSelector"`
			PolicyTypes []string       `yaml:"policyTypes"`
			Ingress     []struct {
				From []struct {
					NamespaceSelector struct {
						MatchLabels map[string]string `yaml:"matchLabels"`
					} `yaml:"namespaceSelector"`
				}
				Ports []map[string]string
			}
		}](t, find(t, file, "NetworkPolicy", "authproxy-ingress"))
		if len(allowed.Ingress) != 1 || len(allowed.Ingress[0].From) != 1 || allowed.Ingress[0].From[0].NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"] == "" {
			t.Errorf("%s lets in %+v, want one namespace", file, allowed.Ingress)
		}
	}
}
