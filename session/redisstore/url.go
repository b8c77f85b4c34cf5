package redisstore

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// errURL says nothing of the URL: what cannot be parsed may be a part of the
// password.
var errURL = errors.New("the URL cannot be read; write it as redis://user:password@host:port/0, with everything in user and password but letters and digits percent-encoded")

// kinds are the schemes without TLS; with an s behind redis they have it.
const (
	kindSingle   = "redis"
	kindSentinel = "redis+sentinel"
	kindCluster  = "redis+cluster"
)

// parseURL returns how to connect to what text names.
func parseURL(text string, options *Options) (rueidis.ClientOption, error) {
	scheme, hosts, u, err := splitURL(text)
	if err != nil {
		return rueidis.ClientOption{}, err
	}
	kind, secure := scheme, false
	if rest, ok := strings.CutPrefix(scheme, "rediss"); ok {
		kind, secure = "redis"+rest, true
	}
	defaultPort := "6379"
	if kind == kindSentinel {
		defaultPort = "26379"
	}
	o := connection()
	if o.InitAddress, err = addresses(hosts, defaultPort); err != nil {
		return o, err
	}
	if u.User != nil {
		o.Username = u.User.Username()
		o.Password, _ = u.User.Password()
	}
	if options.Password != "" {
		o.Password = options.Password
	}
	if o.TLSConfig, err = tlsConfig(secure, u.Query()); err != nil {
		return o, err
	}
	o.Sentinel.TLSConfig, o.Sentinel.Dialer = o.TLSConfig, o.Dialer
	o.Sentinel.Username, o.Sentinel.Password = u.Query().Get("sentinel_user"), options.SentinelPassword
	return o, parsePath(&o, kind, strings.Trim(u.Path, "/"))
}

// connection returns what all connections have in common. A server that falls
// silent is given up after 3 s.
func connection() rueidis.ClientOption {
	o := rueidis.ClientOption{
		ClientName:       "authproxy",
		ConnWriteTimeout: 3 * time.Second,
		// We hear of changes on connections of our own, see Watch.
		DisableCache: true,
		// Commands that go out together go out on one connection, see query.
		PipelineMultiplex: -1,
		// 64 KiB are enough for many sessions at once.
		ReadBufferEachConn: 1 << 16, WriteBufferEachConn: 1 << 16,
	}
	o.Dialer.Timeout, o.Dialer.KeepAlive = 2*time.Second, time.Second
	// There is no reactive way to notice a switch whose message was lost.
	o.Sentinel.TopologyRefreshInterval = time.Second
	o.ClusterOption.ShardsRefreshInterval = 2 * time.Second
	return o
}

// splitURL returns the parts of text: net/url refuses several hosts with ports.
func splitURL(text string) (scheme string, hosts []string, u *url.URL, err error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return "", nil, nil, errURL
	}
	switch scheme {
	case "redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster":
	default:
		return "", nil, nil, errors.New("the URL must begin with redis://, rediss://, redis+sentinel://, rediss+sentinel://, redis+cluster:// or rediss+cluster://")
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	at := strings.LastIndexByte(rest[:end], '@') + 1
	u, err = url.Parse(scheme + "://" + rest[:at] + "host" + rest[end:])
	if err != nil || u.Fragment != "" {
		return "", nil, nil, errURL
	}
	for name := range u.Query() {
		if name != "ca_file" && name != "sentinel_user" {
			return "", nil, nil, errors.New("the URL has a parameter other than ca_file and sentinel_user; remove it")
		}
	}
	return scheme, strings.Split(rest[at:end], ","), u, nil
}

// addresses returns hosts with their ports.
func addresses(hosts []string, defaultPort string) ([]string, error) {
	var result []string
	for _, text := range hosts {
		host, port, err := net.SplitHostPort(text)
		if err != nil {
			host, port = strings.Trim(text, "[]"), defaultPort
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" || strings.ContainsAny(host, "@% ") {
			return nil, errURL
		}
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return nil, errURL
		}
		result = append(result, net.JoinHostPort(host, port))
	}
	return result, nil
}

// parsePath sets what the path of a URL of that kind says.
func parsePath(o *rueidis.ClientOption, kind, path string) error {
	database := path
	switch kind {
	case kindSingle:
		if len(o.InitAddress) != 1 {
			return errors.New("redis:// takes one host; use redis+cluster:// or redis+sentinel:// for several")
		}
	case kindSentinel:
		o.Sentinel.MasterSet, database, _ = strings.Cut(path, "/")
		if o.Sentinel.MasterSet == "" {
			return errors.New("the URL does not name the master; write redis+sentinel://host:26379/<name of the master>")
		}
	case kindCluster:
		if database != "" && database != "0" {
			return errors.New("a Redis Cluster has only database 0; remove the path of the URL")
		}
	}
	if database == "" {
		return nil
	}
	n, err := strconv.Atoi(database)
	if err != nil || n < 0 {
		return fmt.Errorf("the path of the URL does not end with the number of a database; write %s://host/0", kind)
	}
	o.SelectDB = n
	return nil
}

// tlsConfig returns nil without TLS. Certificates are always verified.
func tlsConfig(secure bool, query url.Values) (*tls.Config, error) {
	file := query.Get("ca_file")
	switch {
	case !secure && query.Has("ca_file"):
		return nil, errors.New("the URL has ca_file, but not rediss: begin it with rediss to connect with TLS")
	case !secure:
		return nil, nil
	case file == "":
		return &tls.Config{MinVersion: tls.VersionTLS12}, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file: %s has no certificate in PEM form", file)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, nil
}
