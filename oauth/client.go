package oauth

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxAnswer bounds what we read of one answer of a provider, in bytes. It is
	// one less than what x/oauth2 reads of a token answer, because that cuts
	// there without a word.
	maxAnswer = 1<<20 - 1
	// callTimeout bounds one request to a provider, reading included.
	callTimeout = 10 * time.Second
	// refreshTimeout does so where a refresh token is sent: a provider that answers
	// late has used it up, and what it answers must not be lost.
	refreshTimeout = time.Minute
	// idleTimeout is how long a connection waits for its next request: less than
	// servers wait, of which Node's 5 s are short. One that a server closes at that
	// moment loses the request, and a refresh token is not sent a second time.
	idleTimeout = 3 * time.Second
)

// newClient returns the HTTP client for all that we ask of a provider. It
// follows no redirect, because a redirected token request would carry the
// client secret along, and reads bounded bodies.
func newClient(c Config) (*http.Client, error) {
	next := c.Transport
	if next == nil {
		next = newTransport()
	}
	if c.Auth.Certificate != nil {
		own, ok := next.(*http.Transport)
		if !ok {
			return nil, errors.New("a client certificate needs an *http.Transport")
		}
		own = own.Clone()
		if own.TLSClientConfig == nil {
			own.TLSClientConfig = &tls.Config{}
		}
		own.TLSClientConfig.Certificates = []tls.Certificate{*c.Auth.Certificate}
		next = own
	}
	return &http.Client{
		Timeout:   callTimeout,
		Transport: &boundedTransport{next: next, provider: c.ID, metrics: c.Metrics},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("oauth: the provider answered with a redirect, which is not followed")
		},
	}, nil
}

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:   true,
		TLSHandshakeTimeout: 5 * time.Second,
		MaxIdleConnsPerHost: 8,
		IdleConnTimeout:     idleTimeout,
	}
}

// Metrics are the metrics that all providers share.
type Metrics struct {
	duration *prometheus.HistogramVec
}

// NewMetrics returns the Metrics, registered with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "authproxy_provider_request_duration_seconds", Help: "Requests to identity providers, by provider and status code (0 = no answer).",
		Buckets: []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"provider", "code"})}
	reg.MustRegister(m.duration)
	return m
}

// A boundedTransport caps the answers that pass through it, and times them.
type boundedTransport struct {
	next     http.RoundTripper
	provider string
	metrics  *Metrics
}

func (t *boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	begin := time.Now()
	res, err := t.next.RoundTrip(r)
	code := 0
	if err == nil {
		code = res.StatusCode
		t.limit(r, res)
	}
	if t.metrics != nil {
		t.metrics.duration.WithLabelValues(t.provider, strconv.Itoa(code)).Observe(time.Since(begin).Seconds())
	}
	return res, err
}

// limit bounds the body of res. A failed GET loses it: nobody needs it, but
// go-oidc makes it part of its error text, and it may be a page of any length
// or repeat the access token. What GitHub says there alone goes into a header.
func (t *boundedTransport) limit(r *http.Request, res *http.Response) {
	if r.Method == http.MethodGet && res.StatusCode != http.StatusOK {
		if res.StatusCode == http.StatusForbidden && tellsRateLimit(res.Body) {
			res.Header.Set("Retry-After", "60")
		}
		res.Body.Close()
		res.Body = http.NoBody
		return
	}
	res.Body = &boundedBody{ReadCloser: res.Body, left: maxAnswer}
}

// tellsRateLimit says whether body is GitHub's word that there were too many
// requests at once: "a secondary rate limit", of which no header need tell. One
// should wait for a minute then.
func tellsRateLimit(body io.Reader) bool {
	text, _ := io.ReadAll(io.LimitReader(body, 4<<10)) // cut off is good enough
	return bytes.Contains(text, []byte("secondary rate limit"))
}

// A boundedBody fails once more than its bound is read, so that a cut answer is
// never taken for a whole one.
type boundedBody struct {
	io.ReadCloser
	left int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("oauth: the provider's answer is longer than %d bytes", maxAnswer)
	}
	if len(p) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= n
	return n, err
}

// withoutURL takes the URL out of an error of net/http: a query may hold what
// must not be logged.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
