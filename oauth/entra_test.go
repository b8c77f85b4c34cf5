package oauth_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"authproxy/devidp"
	"authproxy/oauth"
)

const (
	tenantA = "72f988bf-86f1-41af-91ab-2d7cd011db47"
	tenantB = "aaaaaaaa-0000-4000-8000-000000000001"
)

// entraHarness is a look-alike of Entra for tenant, with tokens that idp signs.
func entraHarness(t *testing.T, tenant string, edit func(*oauth.Config)) (*harness, *signer) {
	h := newHarness(t)
	keys := newSigner(t, "entra-1")
	h.publish(t, "/entra-keys", keys.public())
	issuer := h.url + "/" + tenant + "/v2.0"
	if tenant == "common" || tenant == "organizations" {
		issuer = h.url + "/{tenantid}/v2.0"
	}
	h.override(t, "/"+tenant+"/v2.0"+discoveryDoc, answer(object{
		"issuer": issuer, "authorization_endpoint": h.url + "/authorize", "token_endpoint": h.url + "/token", "jwks_uri": h.url + "/entra-keys",
		"userinfo_endpoint": h.url + "/not-asked", "id_token_signing_alg_values_supported": []string{"ES256"},
	}))
	h.override(t, "/not-asked", func(http.ResponseWriter, *http.Request) { t.Error("userinfo was asked; it needs another token") })
	h.config.Type, h.config.Issuer, h.config.BaseURL, h.config.Tenant, h.config.Scopes = oauth.Entra, "", h.url, tenant, nil
	h.config.Endpoints.APIURL = h.url + "/graph/v1.0"
	if edit != nil {
		edit(&h.config)
	}
	h.provider = h.fresh(t, nil)
	return h, keys
}

// entraSignIn is a sign-in with the honest claims of tenant, after edit.
func entraSignIn(t *testing.T, h *harness, keys *signer, tenant string, edit func(map[string]any)) (*oauth.Identity, error) {
	t.Helper()
	h.faults(t, devidp.Faults{CallbackIss: "-"})
	login, back := h.begin(t)
	claims := h.honestClaims(login)
	claims["iss"], claims["tid"] = h.url+"/"+tenant+"/v2.0", tenant
	if edit != nil {
		edit(claims)
	}
	h.faults(t, devidp.Faults{IDToken: keys.sign(t, claims, nil)})
	return h.exchange(t.Context(), t, h.provider, login, back)
}

func TestEntraTokensAreTheirTenants(t *testing.T) {
	iss := func(tenant string) func(h *harness) func(map[string]any) {
		return func(h *harness) func(map[string]any) { return set("iss", h.url+"/"+tenant+"/v2.0") }
	}
	claim := func(name string, value any) func(h *harness) func(map[string]any) {
		return func(*harness) func(map[string]any) { return set(name, value) }
	}
	tests := []struct {
		name    string
		tenant  string // of the configuration
		allowed []string
		signs   string // the token's tenant
		edit    func(h *harness) func(map[string]any)
		want    error
	}{
		{"one tenant", tenantA, nil, tenantA, nil, nil},
		{"another tenant", tenantA, nil, tenantB, nil, oauth.ErrIDToken},
		{"any tenant", "common", nil, tenantB, nil, nil},
		{"any organization", "organizations", nil, tenantB, nil, nil},
		{"an allowed tenant", "common", []string{tenantA, strings.ToUpper(tenantB)}, tenantB, nil, nil},
		{"a tenant that is not allowed", "common", []string{tenantA}, tenantB, nil, oauth.ErrNotAllowed},
		{"an allowed issuer with another tid", "common", []string{tenantA}, tenantA, claim("tid", tenantB), oauth.ErrIDToken},
		{"an allowed tid with another issuer", "common", []string{tenantA}, tenantA, iss(tenantB), oauth.ErrIDToken},
		{"no tid", "common", nil, tenantA, claim("tid", nil), oauth.ErrIDToken},
		{"no issuer", "common", nil, tenantA, claim("iss", nil), oauth.ErrIDToken},
		{"the template itself", "common", nil, "{tenantid}", nil, oauth.ErrIDToken},
		{"a tid that is a path", "common", nil, "x/y", nil, oauth.ErrIDToken},
		{"another host", "common", nil, tenantA, claim("iss", "https://evil.example/"+tenantA+"/v2.0"), oauth.ErrIDToken},
		{"another client", "common", nil, tenantA, claim("aud", "other"), oauth.ErrIDToken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, keys := entraHarness(t, tt.tenant, func(c *oauth.Config) { c.AllowedTenants = tt.allowed })
			var edit func(map[string]any)
			if tt.edit != nil {
				edit = tt.edit(h)
			}
			id, err := entraSignIn(t, h, keys, tt.signs, edit)
			if !errors.Is(err, tt.want) {
				t.Fatalf("error = %v, want %v", err, tt.want)
			}
			if err == nil && id.Issuer != h.url+"/"+tt.signs+"/v2.0" {
				t.Errorf("issuer = %q, want the tenant's own", id.Issuer)
			}
		})
	}
}

func TestAnotherIssuersMetadataIsRefusedForSeveralTenants(t *testing.T) {
	h, _ := entraHarness(t, "common", nil)
	h.editJSONValue(t, "/common/v2.0"+discoveryDoc, object{
		"issuer": "https://evil.example/{tenantid}/v2.0", "authorization_endpoint": h.url + "/authorize", "token_endpoint": h.url + "/token", "jwks_uri": h.url + "/entra-keys",
	})
	if err := h.provider.Discover(t.Context()); !errors.Is(err, oauth.ErrUnavailable) {
		t.Errorf("error = %v, want %v", err, oauth.ErrUnavailable)
	}
}

// editJSONValue answers path with value, until the end of t.
func (h *harness) editJSONValue(t *testing.T, path string, value any) {
	h.override(t, path, answer(value))
}

func TestTheIssParameterFitsSomeTenant(t *testing.T) {
	h, keys := entraHarness(t, "common", nil)
	for iss, want := range map[string]error{
		h.url + "/" + tenantA + "/v2.0":             nil,
		h.url + "/v2.0":                             oauth.ErrIssuerMismatch,
		h.url + "/x/y/v2.0":                         oauth.ErrIssuerMismatch,
		h.url + "/{tenantid}/v2.0":                  oauth.ErrIssuerMismatch,
		"https://evil.example/" + tenantA + "/v2.0": oauth.ErrIssuerMismatch,
	} {
		h.faults(t, devidp.Faults{CallbackIss: "-"})
		login, back := h.begin(t)
		back.Issuer = iss
		claims := h.honestClaims(login)
		claims["iss"], claims["tid"] = h.url+"/"+tenantA+"/v2.0", tenantA
		h.faults(t, devidp.Faults{IDToken: keys.sign(t, claims, nil)})
		if _, err := h.exchange(t.Context(), t, h.provider, login, back); !errors.Is(err, want) {
			t.Errorf("iss %s: error = %v, want %v", iss, err, want)
		}
	}
}

// Whoever runs a tenant can write any address into it: it must not make them
// somebody at ours.
func TestEntrasAddressIsNotVerifiedByBeingThere(t *testing.T) {
	tests := []struct {
		name string
		edit func(map[string]any)
		want bool
	}{
		{"as it is", nil, false},
		{"a claim that Entra does not have", set("email_verified", true), false},
		{"the domain's owner is verified", set("xms_edov", true), true},
		{"the same as text", set("xms_edov", "true"), true},
		{"the domain's owner is not verified", set("xms_edov", false), false},
		{"it is a verified primary address", set("verified_primary_email", []string{"Alice@example.com"}), true},
		{"it is a verified secondary address", set("verified_secondary_email", []string{"x@example.com", "alice@example.com"}), true},
		{"another address is verified", set("verified_primary_email", []string{"alice@evil.example"}), false},
		{"verified, but no address", both(set("email", nil), set("xms_edov", true)), false},
	}
	h, keys := entraHarness(t, tenantA, nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, err := entraSignIn(t, h, keys, tenantA, tt.edit)
			if err != nil || id.EmailVerified != tt.want {
				t.Errorf("identity = %+v, %v, want verified %v", id, err, tt.want)
			}
		})
	}
}

func TestGroupsThatAreTooManyComeFromGraph(t *testing.T) {
	overage := both(set("groups", nil), both(set("_claim_names", object{"groups": "src1"}), set("_claim_sources", object{"src1": object{"endpoint": "https://evil.example/steal"}})))
	graphPath := "/graph/v1.0/me/getMemberGroups"
	tests := []struct {
		name  string
		edit  func(map[string]any)
		graph http.HandlerFunc
		want  []string
		err   error
		text  string
	}{
		{"in the token", set("groups", []string{"g1"}), nil, []string{"g1"}, nil, ""},
		{"none", set("groups", nil), nil, nil, nil, ""},
		{"by a distributed claim", overage, answer(object{"value": []string{"g1", "g2"}}), []string{"g1", "g2"}, nil, ""},
		{"by hasgroups", both(set("groups", nil), set("hasgroups", true)), answer(object{"value": []string{"g3"}}), []string{"g3"}, nil, ""},
		{"Graph refuses", overage, refuse(http.StatusForbidden), nil, oauth.ErrClaims, "status 403; grant the application the delegated permission GroupMember.Read.All"},
		{"more than Graph tells", overage, refuse(http.StatusBadRequest), nil, oauth.ErrClaims, "status 400"},
		{"Graph is down", overage, refuse(http.StatusServiceUnavailable), nil, oauth.ErrUnavailable, "Microsoft Graph"},
		{"Graph is busy", overage, refuse(http.StatusTooManyRequests), nil, oauth.ErrUnavailable, ""},
		{"Graph answers with something else", overage, answer(object{}), nil, oauth.ErrClaims, "without a list"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, keys := entraHarness(t, tenantA, nil)
			if tt.graph != nil {
				h.override(t, graphPath, func(w http.ResponseWriter, r *http.Request) {
					if r.Method != http.MethodPost || !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") {
						t.Errorf("Graph was asked by %s with Authorization %.7q…", r.Method, r.Header.Get("Authorization"))
					}
					tt.graph(w, r)
				})
			}
			id, err := entraSignIn(t, h, keys, tenantA, tt.edit)
			if !errors.Is(err, tt.err) || err != nil && !strings.Contains(err.Error(), tt.text) {
				t.Fatalf("error = %v, want %v with %q", err, tt.err, tt.text)
			}
			if err == nil {
				if diff := cmp.Diff(tt.want, id.Groups); diff != "" {
					t.Errorf("groups (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestGroupsThatAreTooManyDoNotReplaceRoles(t *testing.T) {
	h, keys := entraHarness(t, tenantA, func(c *oauth.Config) { c.GroupsClaim = "roles" })
	h.override(t, "/graph/v1.0/me/getMemberGroups", func(http.ResponseWriter, *http.Request) { t.Error("Graph was asked") })
	for _, overage := range []func(map[string]any){set("hasgroups", true), both(set("_claim_names", object{"groups": "s"}), set("_claim_sources", object{"s": object{}}))} {
		id, err := entraSignIn(t, h, keys, tenantA, both(overage, set("roles", []string{"admin"})))
		if err != nil || len(id.Groups) != 1 || id.Groups[0] != "admin" {
			t.Errorf("identity = %+v, %v, want the role", id, err)
		}
	}
}

func TestEntraTenantsThatAreRefused(t *testing.T) {
	tests := []struct {
		name, tenant string
		allowed      []string
	}{
		{"none", "", nil},
		{"a name", "contoso.example", nil},
		{"a path", tenantA + "/x", nil},
		{"allowed ones beside a single one", tenantA, []string{tenantA}},
		{"an allowed name", "common", []string{"contoso.example"}},
	}
	for _, tt := range tests {
		c := oauth.Config{ID: "e", Type: oauth.Entra, ClientID: "a", RedirectURL: callbackURL, Tenant: tt.tenant, AllowedTenants: tt.allowed}
		if p, err := oauth.New(c); err == nil {
			t.Errorf("%s: New = %v, want an error", tt.name, p)
		}
	}
}

func TestAnotherTenantsTokensAreRefusedWhileGraphIsDown(t *testing.T) {
	h, keys := entraHarness(t, "common", nil)
	was, err := entraSignIn(t, h, keys, tenantA, nil)
	if err != nil {
		t.Fatal(err)
	}
	was.Tokens.Refresh = "a-refresh-token"
	h.override(t, "/graph/v1.0/me/getMemberGroups", refuse(http.StatusServiceUnavailable))
	for tenant, want := range map[string]error{tenantA: nil, tenantB: oauth.ErrIDToken} {
		claims := h.honestClaims(oauth.Login{})
		claims["iss"], claims["tid"], claims["hasgroups"] = h.url+"/"+tenant+"/v2.0", tenant, true
		h.override(t, "/token", answer(object{"access_token": "at-2-at-2", "id_token": keys.sign(t, claims, nil)}))
		id, err := h.provider.Refresh(t.Context(), *was)
		if !errors.Is(err, want) || err == nil && !id.Stale {
			t.Errorf("tenant %s: %+v, %v, want %v or a stale identity", tenant, id, err, want)
		}
	}
}

// The key of personal accounts must not sign for an organization.
func TestAKeyOfOneIssuerDoesNotSignForAnother(t *testing.T) {
	tests := []struct {
		name   string
		tenant string // of the configuration
		issuer any    // of the key, with HOST for the address
		want   error
	}{
		{"for any tenant", "common", "HOST/{tenantid}/v2.0", nil},
		{"for this tenant", "common", "HOST/" + tenantA + "/v2.0", nil},
		{"for another tenant", "common", "HOST/" + tenantB + "/v2.0", oauth.ErrIDToken},
		{"for any tenant of another cloud", "common", "https://evil.example/{tenantid}/v2.0", oauth.ErrIDToken},
		{"for whomever", "common", nil, nil},
		{"for something that is no text", "common", 17, oauth.ErrUnavailable},
		{"for another tenant, but it is this tenant's own set", tenantA, "HOST/" + tenantB + "/v2.0", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, keys := entraHarness(t, tt.tenant, nil)
			h.editJSONValue(t, "/entra-keys", object{"keys": []object{keyOf(t, keys, h.url, tt.issuer)}})
			if _, err := entraSignIn(t, h, keys, tenantA, nil); !errors.Is(err, tt.want) {
				t.Errorf("error = %v, want %v", err, tt.want)
			}
		})
	}
}

// keyOf is the published key with an issuer beside it, as Entra has it.
func keyOf(t *testing.T, keys *signer, host string, issuer any) object {
	t.Helper()
	body, err := keys.public().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var key object
	if err := json.Unmarshal(body, &key); err != nil {
		t.Fatal(err)
	}
	if text, ok := issuer.(string); ok {
		issuer = strings.Replace(text, "HOST", host, 1)
	}
	if issuer != nil {
		key["issuer"] = issuer
	}
	return key
}

func TestATenantThatMayNotSignInIsNotOurs(t *testing.T) {
	tests := []struct {
		name    string
		tenant  string
		allowed []string
		issuer  string
		want    bool
	}{
		{"any tenant", "common", nil, tenantB, true},
		{"an allowed tenant", "common", []string{tenantA, strings.ToUpper(tenantB)}, tenantB, true},
		{"a tenant that was taken off the list", "common", []string{tenantA}, tenantB, false},
		{"no tenant", "common", []string{tenantA}, "x", false},
		{"the one tenant", tenantA, nil, tenantA, true},
		{"another than the one tenant", tenantA, nil, tenantB, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, _ := entraHarness(t, tt.tenant, func(c *oauth.Config) { c.AllowedTenants = tt.allowed })
			if got := h.provider.Issues(h.url + "/" + tt.issuer + "/v2.0"); got != tt.want {
				t.Errorf("Issues = %v, want %v", got, tt.want)
			}
			if h.provider.Issues("") {
				t.Error("no issuer is ours, want it not to be")
			}
		})
	}
}
