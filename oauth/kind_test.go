package oauth_test

import (
	"errors"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"authproxy/devidp"
	"authproxy/oauth"
)

func TestWhatIsUsualForAType(t *testing.T) {
	tests := []struct {
		kind, issuer string
		discovery    string // where the metadata is asked for
		scope        string
	}{
		{"oidc", "https://idp.example", "https://idp.example", "openid email profile"},
		{"", "https://idp.example", "https://idp.example", "openid email profile"},
		{"google", "", "https://accounts.google.com", "openid email profile"},
		{"gitlab", "", "https://gitlab.com", "openid email profile"},
		{"gitlab", "https://git.example", "https://git.example", "openid email profile"},
		{"keycloak", "https://id.example/realms/x", "https://id.example/realms/x", "openid email profile"},
		{"okta", "https://x.okta.example", "https://x.okta.example", "openid email profile groups"},
		{"okta", "https://x.okta.example/oauth2/default", "https://x.okta.example/oauth2/default", "openid email profile"},
		{"auth0", "https://x.auth0.example", "https://x.auth0.example/", "openid email profile"},
		{"auth0", "https://x.auth0.example/", "https://x.auth0.example/", "openid email profile"},
	}
	for _, tt := range tests {
		t.Run(tt.kind+" "+tt.issuer, func(t *testing.T) {
			idp := &remote{up: true, document: discovery(t, set("issuer", tt.discovery))}
			c := remoteConfig(idp)
			c.Type, c.Issuer, c.Scopes = tt.kind, tt.issuer, nil
			p, err := oauth.New(c)
			if err != nil {
				t.Fatal(err)
			}
			address, err := p.AuthCodeURL(t.Context(), "s", oauth.NewLogin("s"), oauth.Prompts{})
			if err != nil {
				t.Fatal(err)
			}
			u, err := url.Parse(address)
			if err != nil || u.Query().Get("scope") != tt.scope {
				t.Errorf("scope = %q (%v), want %q", u.Query().Get("scope"), err, tt.scope)
			}
			if want := map[string]string{"": "oidc"}[tt.kind]; want != "" && p.Type() != want {
				t.Errorf("Type = %q, want %q", p.Type(), want)
			}
		})
	}
}

func TestTypesThatThereAreNot(t *testing.T) {
	c := remoteConfig(nil)
	c.Type = "saml"
	if p, err := oauth.New(c); err == nil {
		t.Errorf("New = %v, want an error", p)
	}
}

func TestGroupsByAPath(t *testing.T) {
	roles := object{"realm_access": object{"roles": []string{"admin", "user"}}, "https://x.example/groups": []string{"named"}, "a": object{"b": object{"c": "deep"}}}
	edit := func(claims map[string]any) {
		delete(claims, "groups")
		for name, value := range roles {
			claims[name] = value
		}
	}
	tests := []struct {
		claim string
		want  []string
	}{
		{"realm_access.roles", []string{"admin", "user"}},
		{"https://x.example/groups", []string{"named"}},
		{"a.b.c", []string{"deep"}},
		{"a.b.x", nil},
		{"a.b.c.d", nil},
		{"none.at.all", nil},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			h := newHarness(t)
			h.config.GroupsClaim = tt.claim
			h.provider = h.fresh(t, nil)
			h.faults(t, devidp.Faults{ClaimsEdit: edit})
			id, err := h.signIn(t, h.provider)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, id.Groups); diff != "" {
				t.Errorf("groups (-want +got):\n%s", diff)
			}
		})
	}
}

func TestKeycloaksRolesAreGroups(t *testing.T) {
	h := newHarness(t)
	h.config.Type = oauth.Keycloak
	h.provider = h.fresh(t, nil)
	full := both(set("realm_access", object{"roles": []string{"admin"}}), set("resource_access", object{
		"app": object{"roles": []string{"editor", "viewer"}}, "account": object{"roles": []string{"manage"}},
	}))
	tests := []struct {
		name string
		edit func(map[string]any)
		want []string
		err  error
	}{
		{"groups and roles", full, []string{"admins", "staff", "role:admin", "role:account:manage", "role:app:editor", "role:app:viewer"}, nil},
		{"groups only", nil, []string{"admins", "staff"}, nil},
		{"roles only", both(set("groups", nil), set("realm_access", object{"roles": []string{"admin"}})), []string{"role:admin"}, nil},
		{"odd roles of the realm", set("realm_access", object{"roles": 1}), nil, oauth.ErrClaims},
		{"odd roles of a client", set("resource_access", object{"app": object{"roles": []any{1}}}), nil, oauth.ErrClaims},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h.faults(t, devidp.Faults{ClaimsEdit: tt.edit})
			id, err := h.signIn(t, h.provider)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error = %v, want %v", err, tt.err)
			}
			if err == nil {
				if diff := cmp.Diff(tt.want, id.Groups); diff != "" {
					t.Errorf("groups (-want +got):\n%s", diff)
				}
			}
		})
	}
}
