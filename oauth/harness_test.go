package oauth_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"authproxy/devidp"
	"authproxy/oauth"
)

const (
	callbackURL  = "http://app.example:4180/auth/callback/dev"
	clientSecret = "s3cret with / and %"
	discoveryDoc = "/.well-known/openid-configuration"
)

// A clock is set by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// A logBuffer takes log lines from several goroutines.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// A request is what the provider was asked.
type request struct {
	line string // "METHOD /path"
	auth string // the Authorization header
	form url.Values
}

// A harness is a provider behind a real listener, and a client of it. It stands
// in front of the provider, to see all requests and to answer some paths itself.
// At the end of the test it looks for secrets in the log.
type harness struct {
	idp      *devidp.Server
	url      string
	clock    *clock
	log      *logBuffer
	config   oauth.Config
	provider *oauth.Provider

	mu        sync.Mutex
	overrides map[string]http.HandlerFunc
	seen      []request
	secrets   []string
}

// providerKeys are those of all providers here, because making them takes long.
var providerKeys = sync.OnceValue(devidp.NewKeys)

func newHarness(t *testing.T) *harness {
	t.Helper()
	h := &harness{
		clock:     &clock{now: time.Unix(1_800_000_000, 0)},
		log:       &logBuffer{},
		overrides: map[string]http.HandlerFunc{},
		secrets:   []string{clientSecret, url.QueryEscape(clientSecret)},
	}
	server := httptest.NewUnstartedServer(h)
	h.url = "http://" + server.Listener.Addr().String()
	idp, err := devidp.New(devidp.Config{
		Issuer: h.url,
		Clients: []devidp.Client{
			{ID: "app", Secret: clientSecret, RedirectURIs: []string{callbackURL}},
			{ID: "public", RedirectURIs: []string{callbackURL}},
		},
		Now: h.clock.Now, Keys: providerKeys(),
	})
	if err != nil {
		t.Fatal(err)
	}
	h.idp = idp
	server.Start()
	t.Cleanup(server.Close)
	h.config = oauth.Config{
		ID: "dev", Name: "Development", Issuer: h.url, ClientID: "app", ClientSecret: clientSecret,
		RedirectURL: callbackURL, Scopes: []string{"openid", "profile", "email"}, GroupsClaim: "groups",
		Now: h.clock.Now, Log: slog.New(slog.NewJSONHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	h.provider = h.fresh(t, nil)
	t.Cleanup(func() { h.checkSilent(t, "the log", h.log.String()) })
	return h
}

// fresh returns another client of the same provider, which knows nothing yet.
func (h *harness) fresh(t *testing.T, edit func(*oauth.Config)) *oauth.Provider {
	t.Helper()
	config := h.config
	if edit != nil {
		edit(&config)
	}
	p, err := oauth.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ServeHTTP records the request and has it answered by an override or by the
// provider. It keeps the tokens that are handed out, as things that nobody may
// print.
func (h *harness) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.ParseForm()
	h.mu.Lock()
	h.seen = append(h.seen, request{r.Method + " " + r.URL.Path, r.Header.Get("Authorization"), r.PostForm})
	next, ok := h.overrides[r.URL.Path]
	h.mu.Unlock()
	if !ok {
		next = h.idp.ServeHTTP
	}
	if r.URL.Path != "/token" {
		next(w, r)
		return
	}
	answer := httptest.NewRecorder()
	next(answer, r)
	h.keepTokens(answer.Body.Bytes())
	copyAnswer(w, answer, answer.Body.Bytes())
}

func (h *harness) keepTokens(body []byte) {
	var tokens struct {
		Access  string `json:"access_token"`
		ID      string `json:"id_token"`
		Refresh string `json:"refresh_token"`
	}
	if json.Unmarshal(body, &tokens) == nil {
		h.keepSecret(tokens.Access, tokens.ID, tokens.Refresh)
	}
}

func (h *harness) keepSecret(values ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, v := range values {
		if len(v) >= 8 {
			h.secrets = append(h.secrets, v)
		}
	}
}

// checkSilent fails the test if text holds a secret.
func (h *harness) checkSilent(t *testing.T, what, text string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, secret := range h.secrets {
		if strings.Contains(text, secret) {
			t.Errorf("%s holds the secret %.12s…: %.300s", what, secret, text)
		}
	}
}

func copyAnswer(w http.ResponseWriter, answer *httptest.ResponseRecorder, body []byte) {
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	w.Write(body)
}

// override answers path by serve, until the end of t.
func (h *harness) override(t *testing.T, path string, serve http.HandlerFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.overrides[path] = serve
	t.Cleanup(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.overrides, path)
	})
}

// editJSON lets edit change what the provider answers at path, until the end of
// t.
func (h *harness) editJSON(t *testing.T, path string, edit func(map[string]any)) {
	h.override(t, path, func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		h.idp.ServeHTTP(answer, r)
		var value map[string]any
		if err := json.Unmarshal(answer.Body.Bytes(), &value); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		edit(value)
		body, err := json.Marshal(value)
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		copyAnswer(w, answer, body)
	})
}

// faults sets the provider's faults, until the end of t.
func (h *harness) faults(t *testing.T, f devidp.Faults) {
	h.idp.SetFaults(f)
	t.Cleanup(func() { h.idp.SetFaults(devidp.Faults{}) })
}

// requests returns the requests so far with this line, or all for "".
func (h *harness) requests(line string) []request {
	h.mu.Lock()
	defer h.mu.Unlock()
	var found []request
	for _, r := range h.seen {
		if line == "" || r.line == line {
			found = append(found, r)
		}
	}
	return found
}

// begin signs alice in at the provider and returns what her browser brings
// back.
func (h *harness) begin(t *testing.T) (oauth.Login, oauth.Callback) {
	t.Helper()
	state := rand.Text()
	login := oauth.NewLogin(state)
	h.keepSecret(state, login.Nonce, login.Verifier)
	address, err := h.provider.AuthCodeURL(t.Context(), state, login, oauth.Prompts{LoginHint: "alice"})
	if err != nil {
		t.Fatalf("AuthCodeURL: %v", err)
	}
	return login, h.visit(t, address)
}

// visit is the browser at the authorization endpoint.
func (h *harness) visit(t *testing.T, address string) oauth.Callback {
	t.Helper()
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := browser.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	u, err := res.Location()
	if err != nil || !strings.HasPrefix(u.String(), callbackURL+"?") {
		t.Fatalf("status %d, Location %v: %v, want a redirect to %s", res.StatusCode, u, err, callbackURL)
	}
	q := u.Query()
	h.keepSecret(q.Get("code"))
	return oauth.Callback{State: q.Get("state"), Code: q.Get("code"), Issuer: q.Get("iss"), Error: q.Get("error")}
}

// exchange is Exchange, with what is true of all its failures: there is no
// identity, and no secret in the text.
func (h *harness) exchange(ctx context.Context, t *testing.T, p *oauth.Provider, login oauth.Login, answer oauth.Callback) (*oauth.Identity, error) {
	t.Helper()
	id, err := p.Exchange(ctx, login, answer)
	if err == nil {
		return id, nil
	}
	if id != nil {
		t.Errorf("Exchange failed with %v and returned an identity, want none", err)
	}
	h.checkSilent(t, "the error", err.Error())
	return nil, err
}

// signIn is a whole sign-in of alice by p.
func (h *harness) signIn(t *testing.T, p *oauth.Provider) (*oauth.Identity, error) {
	t.Helper()
	login, answer := h.begin(t)
	return h.exchange(t.Context(), t, p, login, answer)
}

// honestClaims are those of a correct ID token for login.
func (h *harness) honestClaims(login oauth.Login) map[string]any {
	now := h.clock.Now()
	return map[string]any{
		"iss": h.url, "aud": "app", "sub": "alice-1", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"nonce": login.Nonce, "email": "alice@example.com", "groups": []string{"staff"},
	}
}

// A signer makes ES256 ID tokens of any shape with a key of its own.
type signer struct {
	key *ecdsa.PrivateKey
	kid string
}

func newSigner(t *testing.T, kid string) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{key, kid}
}

// sign returns claims as a JWS. Further header parameters come in more; nil
// removes one.
func (s *signer) sign(t *testing.T, claims, more map[string]any) string {
	t.Helper()
	header := map[string]any{"alg": "ES256", "typ": "JWT", "kid": s.kid}
	maps.Copy(header, more)
	maps.DeleteFunc(header, func(_ string, v any) bool { return v == nil })
	input := encodeJSON(t, header) + "." + encodeJSON(t, claims)
	sum := sha256.Sum256([]byte(input))
	r, v, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	v.FillBytes(signature[32:])
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func (s *signer) public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: s.key.Public(), KeyID: s.kid}
}

func encodeJSON(t *testing.T, v any) string {
	t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(body)
}

// publish makes keys the key set at path, until the end of t.
func (h *harness) publish(t *testing.T, path string, keys ...jose.JSONWebKey) {
	t.Helper()
	body, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	h.override(t, path, func(w http.ResponseWriter, _ *http.Request) { w.Write(body) })
}

// signInWith is a sign-in of p where the ID token is what idToken returns.
func (h *harness) signInWith(t *testing.T, p *oauth.Provider, idToken func(oauth.Login) string) (*oauth.Identity, error) {
	t.Helper()
	login, answer := h.begin(t)
	h.faults(t, devidp.Faults{IDToken: idToken(login)})
	return h.exchange(t.Context(), t, p, login, answer)
}
