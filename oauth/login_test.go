package oauth_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"authproxy/devidp"
	"authproxy/oauth"
)

func TestAForeignAnswerIsRefusedBeforeTheProviderIsContacted(t *testing.T) {
	h := newHarness(t)
	login, answer := h.begin(t)
	_, other := h.begin(t)
	ofNothing := login
	ofNothing.StateHash = oauth.NewLogin("").StateHash
	withoutHash := login
	withoutHash.StateHash = nil
	tests := []struct {
		name  string
		login oauth.Login
		state string
	}{
		{"no state", login, ""},
		{"no state, and the login has none", withoutHash, ""},
		{"no state, and the login has the hash of none", ofNothing, ""},
		{"a state, but the login has none", withoutHash, answer.State},
		{"forged state", login, "forged"},
		{"another login's state", login, other.State},
		{"shortened state", login, answer.State[:len(answer.State)-1]},
		{"lengthened state", login, answer.State + "x"},
		{"the hash itself", login, string(login.StateHash)},
		{"the hash itself in hex", login, hex.EncodeToString(login.StateHash)},
		{"another case", login, strings.ToLower(answer.State)},
	}
	for _, tt := range tests {
		for _, kind := range []string{"code", "error"} {
			t.Run(tt.name+" with "+kind, func(t *testing.T) {
				forged := oauth.Callback{State: tt.state, Code: answer.Code, Issuer: answer.Issuer}
				if kind == "error" {
					forged.Code, forged.Error = "", "access_denied"
				}
				before := h.idp.Requests()
				// A client that has not read the metadata yet must not do it for this.
				_, err := h.exchange(t.Context(), t, h.fresh(t, nil), tt.login, forged)
				if !errors.Is(err, oauth.ErrStateMismatch) {
					t.Errorf("error = %v, want %v", err, oauth.ErrStateMismatch)
				}
				if diff := cmp.Diff(before, h.idp.Requests()); diff != "" {
					t.Errorf("the provider was contacted:\n%s", diff)
				}
			})
		}
	}
	if _, err := h.exchange(t.Context(), t, h.provider, login, answer); err != nil {
		t.Errorf("after all that, the honest answer: %v, want success", err)
	}
}

func TestAnotherIssuersAnswerIsRefused(t *testing.T) {
	h := newHarness(t)
	tests := []struct {
		name      string
		announced bool
		iss       string
		want      error
	}{
		{"announced and right", true, h.url, nil},
		{"announced and another's", true, "https://evil.example", oauth.ErrIssuerMismatch},
		{"announced and missing", true, "", oauth.ErrIssuerMismatch},
		{"announced and right but for a slash", true, h.url + "/", oauth.ErrIssuerMismatch},
		{"not announced and missing", false, "", nil},
		{"not announced and right", false, h.url, nil},
		{"not announced and another's", false, "https://evil.example", oauth.ErrIssuerMismatch},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h.editJSON(t, discoveryDoc, func(doc map[string]any) {
				doc["authorization_response_iss_parameter_supported"] = tt.announced
			})
			p := h.fresh(t, nil)
			login, answer := h.begin(t)
			answer.Issuer = tt.iss

			refused := answer
			refused.Code, refused.Error = "", "access_denied"
			before := len(h.requests("POST /token"))
			_, err := h.exchange(t.Context(), t, p, login, refused)
			if _, ok := errors.AsType[*oauth.RefusedError](err); ok != (tt.want == nil) || !errors.Is(err, tt.want) && tt.want != nil {
				t.Errorf("with an error: %v, want %v, or a refusal if that is nil", err, tt.want)
			}
			if got := len(h.requests("POST /token")); got != before {
				t.Errorf("with an error: %d token requests, want none", got-before)
			}
			_, err = h.exchange(t.Context(), t, p, login, answer)
			if !errors.Is(err, tt.want) {
				t.Errorf("with a code: %v, want %v", err, tt.want)
			}
			if got := len(h.requests("POST /token")) - before; (got == 0) != (tt.want != nil) {
				t.Errorf("with a code: %d token requests, want none if the issuer is wrong", got)
			}
		})
	}
}

func TestARefusalCarriesACleanCode(t *testing.T) {
	h := newHarness(t)
	tests := []struct {
		name, sent, want string
	}{
		{"as it is", "access_denied", "access_denied"},
		{"no markup", "<script>alert(1)</script>", "scriptalert1script"},
		{"no lines", "a\r\nSet-Cookie: b", "aSet-Cookieb"},
		{"no letters that look alike", "accеss", "accss"},
		{"not long", strings.Repeat("e", 1000), strings.Repeat("e", 64)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			login, answer := h.begin(t)
			answer.Code, answer.Error = "", tt.sent
			_, err := h.exchange(t.Context(), t, h.provider, login, answer)
			refused, ok := errors.AsType[*oauth.RefusedError](err)
			if !ok || refused.Code != tt.want || err.Error() != "oauth: the provider refused: "+tt.want {
				t.Errorf("error = %v, want a refusal with code %q", err, tt.want)
			}
		})
	}
}

func TestARefusalWinsOverACode(t *testing.T) {
	h := newHarness(t)
	login, answer := h.begin(t)
	answer.Error = "access_denied"
	if _, err := h.exchange(t.Context(), t, h.provider, login, answer); err == nil {
		t.Error("an answer with code and error signed in, want a refusal")
	}
	if got := len(h.requests("POST /token")); got != 0 {
		t.Errorf("%d token requests, want none", got)
	}
}

func TestTheCodeMustBeThisLogins(t *testing.T) {
	h := newHarness(t)
	tests := []struct {
		name string
		edit func(login *oauth.Login, answer *oauth.Callback)
		want int // token requests
	}{
		{"the verifier of another login", func(l *oauth.Login, _ *oauth.Callback) {
			l.Verifier = oauth.NewLogin("x").Verifier
		}, 1},
		{"no verifier", func(l *oauth.Login, _ *oauth.Callback) { l.Verifier = "" }, 1},
		// An attacker's code, injected into the victim's callback (RFC 9700,
		// section 4.5).
		{"the code of another login", func(_ *oauth.Login, a *oauth.Callback) {
			_, other := h.begin(t)
			a.Code = other.Code
		}, 1},
		{"a made-up code", func(_ *oauth.Login, a *oauth.Callback) { a.Code = "made-up-code" }, 1},
		{"no code", func(_ *oauth.Login, a *oauth.Callback) { a.Code = "" }, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			login, answer := h.begin(t)
			tt.edit(&login, &answer)
			before := len(h.requests("POST /token"))
			_, err := h.exchange(t.Context(), t, h.provider, login, answer)
			if !errors.Is(err, oauth.ErrCode) {
				t.Errorf("error = %v, want %v", err, oauth.ErrCode)
			}
			if got := len(h.requests("POST /token")) - before; got != tt.want {
				t.Errorf("%d token requests, want %d", got, tt.want)
			}
		})
	}
}

func TestACodeWorksOnce(t *testing.T) {
	h := newHarness(t)
	login, answer := h.begin(t)
	if _, err := h.exchange(t.Context(), t, h.provider, login, answer); err != nil {
		t.Fatal(err)
	}
	if _, err := h.exchange(t.Context(), t, h.provider, login, answer); !errors.Is(err, oauth.ErrCode) {
		t.Errorf("the second time: %v, want %v", err, oauth.ErrCode)
	}
}

func TestAuthCodeURL(t *testing.T) {
	h := newHarness(t)
	login := oauth.NewLogin("the-state")
	sum := sha256.Sum256([]byte(login.Verifier))
	want := url.Values{
		"response_type": {"code"}, "client_id": {"app"}, "redirect_uri": {callbackURL}, "scope": {"openid profile email"},
		"state": {"the-state"}, "nonce": {login.Nonce},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	tests := []struct {
		name string
		ask  oauth.Prompts
		more url.Values
	}{
		{"nothing asked", oauth.Prompts{}, nil},
		{"hint", oauth.Prompts{LoginHint: "a&b=c"}, url.Values{"login_hint": {"a&b=c"}}},
		{"prompt", oauth.Prompts{Prompt: "select_account"}, url.Values{"prompt": {"select_account"}}},
		{"both", oauth.Prompts{LoginHint: "alice", Prompt: "login"}, url.Values{"login_hint": {"alice"}, "prompt": {"login"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			address, err := h.provider.AuthCodeURL(t.Context(), "the-state", login, tt.ask)
			if err != nil {
				t.Fatal(err)
			}
			base, query, _ := strings.Cut(address, "?")
			if base != h.url+"/authorize" {
				t.Errorf("address = %q, want %q", base, h.url+"/authorize")
			}
			got, err := url.ParseQuery(query)
			if err != nil {
				t.Fatal(err)
			}
			for name, values := range tt.more {
				if diff := cmp.Diff(values, got[name]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
				got.Del(name)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("query (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoginsHaveNothingInCommon(t *testing.T) {
	a, b := oauth.NewLogin("one"), oauth.NewLogin("two")
	if string(a.StateHash) == string(b.StateHash) || a.Nonce == b.Nonce || a.Verifier == b.Verifier {
		t.Errorf("two logins share a secret: %v, %v", a, b)
	}
	// RFC 7636, section 4.1: at least 43 characters.
	if len(a.Verifier) < 43 || len(a.Nonce) < 22 {
		t.Errorf("verifier of %d and nonce of %d characters, want at least 43 and 22", len(a.Verifier), len(a.Nonce))
	}
}

func TestTheSecretIsPresentedAsTheProviderWantsIt(t *testing.T) {
	h := newHarness(t)
	const announcement = "token_endpoint_auth_methods_supported"
	announce := func(methods ...string) func(map[string]any) {
		return func(doc map[string]any) { doc[announcement] = methods }
	}
	public := func(c *oauth.Config) { c.ClientID, c.ClientSecret = "public", "" }
	tests := []struct {
		name      string
		client    func(*oauth.Config)
		discovery func(map[string]any)
		want      string
	}{
		{"basic if announced", nil, announce("client_secret_post", "client_secret_basic"), "basic"},
		{"basic if nothing is announced", nil, func(doc map[string]any) { delete(doc, announcement) }, "basic"},
		{"post if only that is announced", nil, announce("private_key_jwt", "client_secret_post"), "post"},
		{"a public client has none", public, announce("client_secret_basic"), "none"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h.editJSON(t, discoveryDoc, tt.discovery)
			h.provider = h.fresh(t, tt.client)
			before := len(h.requests("POST /token"))
			if _, err := h.signIn(t, h.provider); err != nil {
				t.Fatalf("sign-in: %v", err)
			}
			sent := h.requests("POST /token")[before:]
			if len(sent) != 1 {
				t.Fatalf("the code was sent %d times, want once", len(sent))
			}
			if got := clientAuth(sent[0]); got != tt.want {
				t.Errorf("client authentication = %q, want %q", got, tt.want)
			}
		})
	}

	t.Run("a wrong secret is not tried in another way", func(t *testing.T) {
		h.provider = h.fresh(t, func(c *oauth.Config) { c.ClientSecret = "a wrong secret" })
		before := len(h.requests("POST /token"))
		if _, err := h.signIn(t, h.provider); !errors.Is(err, oauth.ErrCode) {
			t.Errorf("error = %v, want %v", err, oauth.ErrCode)
		}
		if got := len(h.requests("POST /token")) - before; got != 1 {
			t.Errorf("the code was sent %d times, want once", got)
		}
	})
}

// clientAuth says how r authenticates the client.
func clientAuth(r request) string {
	switch {
	case r.auth != "" && !r.form.Has("client_secret") && !r.form.Has("client_id"):
		return "basic"
	case r.auth == "" && r.form.Get("client_secret") == clientSecret:
		return "post"
	case r.auth == "" && !r.form.Has("client_secret") && r.form.Get("client_id") == "public":
		return "none"
	}
	return "several ways"
}

func TestTokenEndpointRefusalsAreTheCodesFault(t *testing.T) {
	h := newHarness(t)
	tests := []struct {
		name   string
		status int
		body   string
		want   error
		text   string // in the error, for the operator
	}{
		{"invalid_grant", http.StatusBadRequest, `{"error":"invalid_grant"}`, oauth.ErrCode, `status 400, "invalid_grant"`},
		{"invalid_client", http.StatusUnauthorized, `{"error":"invalid_client"}`, oauth.ErrCode, `status 401, "invalid_client"`},
		{"an error with status 200", http.StatusOK, `{"error":"bad_verification_code"}`, oauth.ErrCode, `"bad_verification_code"`},
		{"no JSON", http.StatusBadRequest, `<p>no</p>`, oauth.ErrCode, "status 400"},
		{"overloaded", http.StatusTooManyRequests, `{"error":"slow_down"}`, oauth.ErrUnavailable, "status 429"},
		{"broken", http.StatusInternalServerError, `{"error":"server_error"}`, oauth.ErrUnavailable, "status 500"},
		{"no access token", http.StatusOK, `{}`, oauth.ErrUnavailable, "access_token"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h.override(t, "/token", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(tt.status)
				w.Write([]byte(tt.body))
			})
			_, err := h.signIn(t, h.provider)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error = %v, want %v with %q", err, tt.want, tt.text)
			}
		})
	}
}

func TestErrorsDoNotRepeatWhatAProviderEchoes(t *testing.T) {
	h := newHarness(t)
	echo := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			w.Write([]byte(`{"error":"no","error_description":"` + url.QueryEscape(r.Header.Get("Authorization")) + " " + r.Form.Encode() + `"}`))
			w.Write([]byte(r.Header.Get("Authorization")))
		}
	}
	for _, path := range []string{"/token", "/userinfo"} {
		for _, status := range []int{http.StatusOK, http.StatusBadRequest, http.StatusUnauthorized, http.StatusInternalServerError} {
			t.Run(path+" "+http.StatusText(status), func(t *testing.T) {
				h.faults(t, devidp.Faults{EmailInUserinfoOnly: true})
				h.override(t, path, echo(status))
				// exchange looks for the secrets in the error.
				if _, err := h.signIn(t, h.provider); err == nil {
					t.Error("the sign-in worked, want an error")
				}
			})
		}
	}
}
