package e2e

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// A recording is what a provider answers, by path. A key may have a query, which
// then must be part of the request's query or form; of several keys that fit
// the longest counts. The files in testdata/recorded have the shapes of the
// providers' own answers, with HOST for the address. An object as id_token is
// signed, AT_HASH becomes the access token's, and KEYS is the key set.
type recording map[string]*reply

// A reply is one answer. That of the authorization endpoint is a redirect.
type reply struct {
	Status int               `json:"status"` // 0 is 200
	Header map[string]string `json:"header"`
	Body   any               `json:"body"`
	// Bearer is the token without which the request fails the test.
	Bearer string `json:"bearer"`
	// Hang leaves the request without an answer until its client gives up.
	Hang bool `json:"hang"`
	// Iss is the issuer in an authorization response, where the provider says it
	// (RFC 9207).
	Iss string `json:"iss"`
}

type object = map[string]any

// recordedKey signs for all recorded providers, and is the key of Google's
// service account: making one takes a while.
var recordedKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// A recorded provider plays a recording.
type recorded struct {
	t   *testing.T
	url string

	mu        sync.Mutex
	replies   recording
	nonce     string
	refreshes int
}

// newRecorded starts a provider that plays testdata/recorded/name.json.
func newRecorded(t *testing.T, name string) *recorded {
	t.Helper()
	p := &recorded{t: t}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	p.url = server.URL
	text, err := os.ReadFile(filepath.Join("testdata", "recorded", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	read := json.NewDecoder(bytes.NewReader(bytes.ReplaceAll(text, []byte("HOST"), []byte(p.url))))
	read.UseNumber() // ids of 17 digits stay what they are
	if err := read.Decode(&p.replies); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return p
}

// edit changes the recording.
func (p *recorded) edit(change func(recording)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if change != nil {
		change(p.replies)
	}
}

// asked returns how often the refresh token came.
func (p *recorded) asked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refreshes
}

// ServeHTTP plays the reply that fits r. What there is none for fails the test.
func (p *recorded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		p.t.Errorf("%s: %v", r.URL.Path, err)
	}
	if p.answer(w, r) {
		<-r.Context().Done()
	}
}

// answer plays the reply that fits r, unless it is to hang.
func (p *recorded) answer(w http.ResponseWriter, r *http.Request) (hang bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.Form.Get("grant_type") == "refresh_token" {
		p.refreshes++
	}
	answer := p.replies.find(r)
	switch {
	case answer == nil:
		p.t.Errorf("nothing is recorded for %s %s", r.Method, r.URL.Path)
		http.NotFound(w, r)
	case r.Form.Get("response_type") == "code":
		p.nonce = r.Form.Get("nonce")
		q := url.Values{"code": {"recorded-code"}, "state": {r.Form.Get("state")}}
		if answer.Iss != "" {
			q.Set("iss", answer.Iss)
		}
		http.Redirect(w, r, r.Form.Get("redirect_uri")+"?"+q.Encode(), http.StatusFound)
	case answer.Bearer != "" && r.Header.Get("Authorization") != "Bearer "+answer.Bearer:
		p.t.Errorf("%s is asked without the token %s", r.URL.Path, answer.Bearer)
		w.WriteHeader(http.StatusUnauthorized)
	case answer.Hang:
		return true
	default:
		p.play(w, answer)
	}
	return false
}

// find returns the reply whose key fits r best, nil if none does.
func (r recording) find(req *http.Request) *reply {
	var best string
	for key := range r {
		path, query, _ := strings.Cut(key, "?")
		if path == req.URL.Path && len(key) > len(best) && fits(query, req.Form) {
			best = key
		}
	}
	return r[best]
}

func fits(query string, form url.Values) bool {
	for pair := range strings.SplitSeq(query, "&") {
		if name, value, _ := strings.Cut(pair, "="); form.Get(name) != value {
			return false
		}
	}
	return true
}

// play writes an answer.
func (p *recorded) play(w http.ResponseWriter, answer *reply) {
	body := answer.Body
	if fields, ok := body.(object); ok {
		if claims, ok := fields["id_token"].(object); ok {
			fields = maps.Clone(fields)
			fields["id_token"] = p.sign(claims, fields["access_token"])
			body = fields
		}
	}
	if body == "KEYS" {
		body = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: recordedKey().Public(), KeyID: "recorded", Algorithm: "RS256", Use: "sig"}}}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	for name, value := range answer.Header {
		w.Header().Set(name, value)
	}
	if answer.Status != 0 {
		w.WriteHeader(answer.Status)
	}
	if text, ok := body.(string); ok {
		fmt.Fprint(w, text)
		return
	}
	if err := json.NewEncoder(w).Encode(body); err != nil {
		p.t.Error(err)
	}
}

// sign makes an ID token of claims, as of now and for the sign-in under way.
func (p *recorded) sign(claims object, access any) string {
	now := time.Now().Unix()
	claims = maps.Clone(claims)
	claims["iat"], claims["exp"], claims["nonce"] = now, now+3600, p.nonce
	if claims["at_hash"] == "AT_HASH" { // OpenID Connect Core 1.0, section 3.1.3.6
		sum := sha256.Sum256([]byte(access.(string)))
		claims["at_hash"] = base64.RawURLEncoding.EncodeToString(sum[:16])
	}
	header, err := json.Marshal(object{"alg": "RS256", "typ": "JWT", "kid": "recorded"})
	payload, err2 := json.Marshal(claims)
	if err != nil || err2 != nil {
		p.t.Error(err, err2)
	}
	input := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(payload)
	sum := sha256.Sum256([]byte(input))
	signature, err := rsa.SignPKCS1v15(nil, recordedKey(), crypto.SHA256, sum[:])
	if err != nil {
		p.t.Error(err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// token returns the reply of the token endpoint and its path.
func (r recording) token() (string, *reply) {
	for key, answer := range r {
		path, query, _ := strings.Cut(key, "?")
		if fields, ok := answer.Body.(object); ok && query == "" && fields["refresh_token"] != nil {
			return path, answer
		}
	}
	panic("the recording has no token endpoint")
}

// claim returns an edit that sets a claim of the ID token, or removes it for
// nil.
func claim(name string, value any) func(recording) {
	return func(r recording) {
		_, answer := r.token()
		claims := answer.Body.(object)["id_token"].(object)
		claims[name] = value
		maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	}
}

// at returns an edit that replaces what is answered at path, but for the token
// that it wants.
func at(path string, answer reply) func(recording) {
	return func(r recording) {
		if was := r[path]; was != nil && answer.Bearer == "" {
			answer.Bearer = was.Bearer
		}
		r[path] = &answer
	}
}

// field returns an edit that sets one field of the object that is answered at
// path.
func field(path, name string, value any) func(recording) {
	return func(r recording) { r[path].Body.(object)[name] = value }
}

// both returns an edit that makes all edits.
func both(edits ...func(recording)) func(recording) {
	return func(r recording) {
		for _, edit := range edits {
			edit(r)
		}
	}
}

// serviceAccount writes a key file as Google's console gives it out, and returns
// its path.
func serviceAccount(t *testing.T, tokenURL string) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(recordedKey())
	if err != nil {
		t.Fatal(err)
	}
	file, err := json.Marshal(object{
		"type": "service_account", "project_id": "p", "private_key_id": "key-1", "client_email": "robot@p.iam.example",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "token_uri": tokenURL,
	})
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, "google.json", string(file))
}
