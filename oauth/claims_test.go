package oauth_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"authproxy/devidp"
	"authproxy/oauth"
)

// withoutClaims leaves the documents out of a comparison; they have tests of
// their own.
func withoutClaims() cmp.Option { return cmpopts.IgnoreFields(oauth.Identity{}, "Claims") }

func TestTheIDTokenComesWholeAndUserinfoOnlyIfItIsWanted(t *testing.T) {
	h := newHarness(t)
	for _, read := range []bool{false, true} {
		p := h.fresh(t, func(c *oauth.Config) { c.ReadUserinfo = read })
		before := len(h.requests("GET /userinfo"))
		id, err := h.signIn(t, p)
		if err != nil {
			t.Fatal(err)
		}
		if got := id.Claims.IDToken["email"]; got != "alice@example.com" {
			t.Errorf("the ID token's email = %v, want alice's", got)
		}
		if _, ok := id.Claims.IDToken["iat"].(json.Number); !ok {
			t.Errorf("iat is a %T, want a number as it was written", id.Claims.IDToken["iat"])
		}
		if got := len(h.requests("GET /userinfo")) - before; (got == 1) != read {
			t.Errorf("ReadUserinfo %v: userinfo was asked %d times", read, got)
		}
		if got := id.Claims.Userinfo["sub"]; (got == id.Subject) != read {
			t.Errorf("ReadUserinfo %v: userinfo's sub = %v", read, got)
		}
		if id.Claims.Account != nil {
			t.Errorf("there is an account in an API that nobody has: %v", id.Claims.Account)
		}
	}
}

func TestTheClassOfTheSignInIsTheIDTokens(t *testing.T) {
	h := newHarness(t)
	for acr, want := range map[any]string{"urn:example:gold": "urn:example:gold", nil: ""} {
		h.faults(t, devidp.Faults{ClaimsEdit: set("acr", acr)})
		id, err := h.signIn(t, h.provider)
		if err != nil || id.ACR != want {
			t.Errorf("acr = %q, %v, want %q", id.ACR, err, want)
		}
	}
	h.faults(t, devidp.Faults{ClaimsEdit: set("acr", "gold\r\nX: y")})
	if _, err := h.signIn(t, h.provider); !errors.Is(err, oauth.ErrClaims) {
		t.Errorf("a class with a line break: %v, want ErrClaims", err)
	}
}

func TestTheGitHubAccountComesWhole(t *testing.T) {
	l := newGitHub(t)
	l.on("/api/v3/user", answer(object{"id": 583231, "login": "alice", "company": "Acme", "plan": object{"name": "pro"}}))
	id, err := l.signIn(t, l.provider(t, gitHub(l)))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"id": json.Number("583231"), "login": "alice", "company": "Acme", "plan": map[string]any{"name": "pro"}}
	if diff := cmp.Diff(oauth.Claims{Account: want}, id.Claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
}

func TestAnswersOfAUserinfoEndpointComeWhole(t *testing.T) {
	l, c := newPlain(t, `{"id":"1","n":90071992547409931}`)
	id, err := l.signIn(t, l.provider(t, c))
	if err != nil {
		t.Fatal(err)
	}
	want := oauth.Claims{Userinfo: map[string]any{"id": "1", "n": json.Number("90071992547409931")}}
	if diff := cmp.Diff(want, id.Claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
}

func TestTheGitLabAccountIsReadFromItsAPIIfItIsWanted(t *testing.T) {
	h := newHarness(t)
	for _, row := range []struct {
		name   string
		read   bool
		status int
		want   map[string]any
		err    error
	}{
		{"not wanted", false, http.StatusOK, nil, nil},
		{"wanted", true, http.StatusOK, map[string]any{"username": "alice"}, nil},
		{"without the scope", true, http.StatusForbidden, nil, oauth.ErrClaims},
		{"down", true, http.StatusBadGateway, nil, oauth.ErrUnavailable},
	} {
		t.Run(row.name, func(t *testing.T) {
			h.override(t, "/api/v4/user", func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(row.status)
				w.Write([]byte(`{"username":"alice"}`))
			})
			p := h.fresh(t, func(c *oauth.Config) { c.Type, c.ReadAccount = oauth.GitLab, row.read })
			id, err := h.signIn(t, p)
			if !errors.Is(err, row.err) {
				t.Fatalf("error = %v, want %v", err, row.err)
			}
			if id == nil {
				return
			}
			if diff := cmp.Diff(row.want, id.Claims.Account); diff != "" {
				t.Errorf("account (-want +got):\n%s", diff)
			}
		})
	}
}

func TestASignInOfAClassAndAnAgeIsAskedForWhereItCanBeDescribed(t *testing.T) {
	h := newHarness(t)
	for kind, can := range map[string]bool{
		oauth.OIDC: true, oauth.Keycloak: true, oauth.Okta: true, oauth.Auth0: true, oauth.GitLab: true, oauth.Google: false,
	} {
		p := h.fresh(t, func(c *oauth.Config) {
			c.Type, c.Endpoints = kind, oauth.Endpoints{AuthorizeURL: h.url + "/authorize", TokenURL: h.url + "/token", JWKSURL: h.url + "/jwks"}
		})
		if got := p.DescribesSignIns(); got != can {
			t.Errorf("%s describes sign-ins: %v, want %v", kind, got, can)
		}
		address, err := p.AuthCodeURL(t.Context(), "state", oauth.NewLogin("state"), oauth.Prompts{ACRValues: "gold silver", MaxAge: 5 * time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		got := u.Query().Get("acr_values") + "|" + u.Query().Get("max_age")
		if want := map[bool]string{true: "gold silver|300", false: "|"}[can]; got != want {
			t.Errorf("%s is asked for %q, want %q", kind, got, want)
		}
	}
	for _, c := range []oauth.Config{{Type: oauth.GitHub}, {Type: oauth.OAuth2, Issuer: "https://x.example"}} {
		c.ID, c.ClientID, c.RedirectURL = "x", "x", callbackURL
		p, err := oauth.New(c)
		if err != nil {
			t.Fatal(err)
		}
		if p.DescribesSignIns() {
			t.Errorf("%s has no ID tokens, and is said to describe sign-ins", c.Type)
		}
	}
}
