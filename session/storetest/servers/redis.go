package servers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// RedisPassword is that of all Redis servers.
const RedisPassword = "s3cret-r3dis"

// A Redis is a Redis server that needs a password. It writes everything to its
// disk before it answers, so that it has it after Kill and Start.
type Redis struct {
	// Addr is where it listens, host and port.
	Addr string
	// CAFile is the certificate authority of a server with TLS, "" without.
	CAFile string

	dir     string
	args    []string
	process *exec.Cmd
	exited  chan struct{}
}

// StartRedis starts a server that is stopped when the test ends, with further
// settings as redis-server takes them on its command line.
func StartRedis(t testing.TB, args ...string) *Redis {
	t.Helper()
	r := newRedis(t)
	_, port, _ := net.SplitHostPort(r.Addr)
	r.args = append([]string{"--port", port, "--requirepass", RedisPassword, "--masterauth", RedisPassword,
		"--appendonly", "yes", "--appendfsync", "always", "--save", "", "--dir", r.dir}, args...)
	r.Start(t)
	return r
}

// StartRedisTLS starts a server that takes connections with TLS only.
func StartRedisTLS(t testing.TB) *Redis {
	t.Helper()
	r := newRedis(t)
	_, port, _ := net.SplitHostPort(r.Addr)
	r.CAFile = filepath.Join(r.dir, "ca.pem")
	certificate, key := filepath.Join(r.dir, "cert.pem"), filepath.Join(r.dir, "key.pem")
	writeCertificates(t, r.CAFile, certificate, key)
	r.args = []string{"--port", "0", "--tls-port", port, "--tls-cert-file", certificate, "--tls-key-file", key,
		"--tls-ca-cert-file", r.CAFile, "--tls-auth-clients", "no", "--requirepass", RedisPassword, "--save", "", "--dir", r.dir}
	r.Start(t)
	return r
}

// newRedis returns a server that is yet to start.
func newRedis(t testing.TB) *Redis {
	t.Helper()
	Need(t, "redis-server")
	Need(t, "redis-cli")
	r := &Redis{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t))), dir: t.TempDir()}
	t.Cleanup(func() { r.Kill(t) })
	return r
}

// URL returns the address of r as authproxy takes it.
func (r *Redis) URL() string { return r.URLAt(r.Addr) }

// URLAt returns the address of r by way of addr, host and port of a [Link].
func (r *Redis) URLAt(addr string) string {
	if r.CAFile != "" {
		return "rediss://:" + RedisPassword + "@" + addr + "/0?ca_file=" + r.CAFile
	}
	return "redis://:" + RedisPassword + "@" + addr + "/0"
}

// Start starts r, which does not run, and waits until it answers.
func (r *Redis) Start(t testing.TB) {
	t.Helper()
	r.process = exec.Command("redis-server", r.args...)
	log, err := os.OpenFile(filepath.Join(r.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	r.process.Stdout, r.process.Stderr = log, log
	if err := r.process.Start(); err != nil {
		t.Fatalf("redis-server: %v", err)
	}
	exited, process := make(chan struct{}), r.process
	r.exited = exited
	go func() {
		process.Wait() // Kill is the usual end, and no error
		close(exited)
	}()
	eventually(t, "redis-server answers", func() error {
		out, err := r.try("PING")
		if err == nil && out != "PONG" {
			err = fmt.Errorf("it says %q", out)
		}
		return err
	})
}

// Kill ends r at once, as a power cut does. It may be called again.
func (r *Redis) Kill(t testing.TB) {
	t.Helper()
	if r.process == nil || r.process.Process == nil {
		return
	}
	r.process.Process.Kill() // it may have exited
	<-r.exited
}

// Freeze lets r keep its connections and do nothing until Thaw is called.
func (r *Redis) Freeze(t testing.TB) { r.signal(t, syscall.SIGSTOP) }

// Thaw undoes Freeze.
func (r *Redis) Thaw(t testing.TB) { r.signal(t, syscall.SIGCONT) }

func (r *Redis) signal(t testing.TB, s os.Signal) {
	t.Helper()
	if err := r.process.Process.Signal(s); err != nil {
		t.Fatalf("redis-server: %v", err)
	}
}

// CLI returns what redis-cli prints for a command.
func (r *Redis) CLI(t testing.TB, args ...string) string {
	t.Helper()
	out, err := r.try(args...)
	if err != nil {
		t.Fatalf("redis-cli %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// try runs redis-cli. In a Cluster it goes where the key is.
func (r *Redis) try(args ...string) (string, error) {
	host, port, _ := net.SplitHostPort(r.Addr)
	options := []string{"-c", "-e", "-h", host, "-p", port}
	if r.CAFile != "" {
		options = append(options, "--tls", "--cacert", r.CAFile)
	}
	cmd := exec.Command("redis-cli", append(options, args...)...)
	cmd.Env = append(os.Environ(), "REDISCLI_AUTH="+RedisPassword)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// A RedisSentinel is a master with a replica, and a Sentinel that watches them
// and is enough to decide.
type RedisSentinel struct {
	Sentinel, Master, Replica *Redis
}

// RedisMasterName is the name of the master at the Sentinel.
const RedisMasterName = "main"

// StartRedisSentinel starts all three and waits until the replica has what the
// master has.
func StartRedisSentinel(t testing.TB) *RedisSentinel {
	t.Helper()
	s := &RedisSentinel{Master: StartRedis(t)}
	host, port, _ := net.SplitHostPort(s.Master.Addr)
	s.Replica = StartRedis(t, "--replicaof", host+" "+port)
	eventually(t, "the replica follows", func() error {
		if out, err := s.Replica.try("INFO", "replication"); err != nil || !strings.Contains(out, "master_link_status:up") {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	s.Sentinel = newRedis(t)
	_, sentinelPort, _ := net.SplitHostPort(s.Sentinel.Addr)
	config := filepath.Join(s.Sentinel.dir, "sentinel.conf")
	lines := fmt.Sprintf("port %s\nbind 127.0.0.1\nrequirepass %s\nsentinel monitor %[3]s %s %s 1\nsentinel auth-pass %[3]s %[2]s\n"+
		"sentinel down-after-milliseconds %[3]s 1000\nsentinel failover-timeout %[3]s 5000\n",
		sentinelPort, RedisPassword, RedisMasterName, host, port)
	if err := os.WriteFile(config, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Sentinel.args = []string{config, "--sentinel"}
	s.Sentinel.Start(t)
	eventually(t, "the Sentinel knows the replica", func() error {
		if out, err := s.Sentinel.try("SENTINEL", "REPLICAS", RedisMasterName); err != nil || !strings.Contains(out, s.Replica.Addr) {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	return s
}

// URL returns the address of s as authproxy takes it.
func (s *RedisSentinel) URL() string {
	return "redis+sentinel://:" + RedisPassword + "@" + s.Sentinel.Addr + "/" + RedisMasterName + "/0"
}

// A RedisCluster is a Redis Cluster of masters without replicas.
type RedisCluster struct{ Nodes []*Redis }

// StartRedisCluster starts a cluster of three and waits until it serves all
// slots.
func StartRedisCluster(t testing.TB) *RedisCluster {
	t.Helper()
	c := &RedisCluster{}
	args := []string{"--cluster", "create"}
	for range 3 {
		args = append(args, c.Add(t).Addr)
	}
	c.Nodes[0].CLI(t, append(args, "--cluster-replicas", "0", "--cluster-yes")...)
	for _, n := range c.Nodes {
		eventually(t, "the cluster is complete", func() error {
			if out, err := n.try("CLUSTER", "INFO"); err != nil || !strings.Contains(out, "cluster_state:ok") {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
	}
	return c
}

// Add starts another server that could be a part of c, and is none yet.
func (c *RedisCluster) Add(t testing.TB) *Redis {
	t.Helper()
	n := StartRedis(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", strconv.Itoa(freePort(t)))
	c.Nodes = append(c.Nodes, n)
	return n
}

// URL returns the address of c as authproxy takes it.
func (c *RedisCluster) URL() string {
	var addresses []string
	for _, n := range c.Nodes {
		addresses = append(addresses, n.Addr)
	}
	return "redis+cluster://:" + RedisPassword + "@" + strings.Join(addresses, ",")
}

// writeCertificates writes a certificate authority, and a certificate for
// loopback with its key.
func writeCertificates(t testing.TB, caFile, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// One certificate that signs itself is the authority as well.
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		caFile: {Type: "CERTIFICATE", Bytes: certificate}, certFile: {Type: "CERTIFICATE", Bytes: certificate},
		keyFile: {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
