package e2e

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"authproxy/devidp/legacyapp"
)

const upstreamConfig = `
listen: %[1]q
admin: {listen: ""}
public_url: http://%[1]s
upstream:
  url: %[2]s
  headers: {X-Tenant: "{{ user.provider }}/{{ claims.login }}"}
  basic: {username: proxy, password: secret-of-the-app}
  cookies: {app_token: jwt}
sign_out: {clear_cookies: [JSESSIONID]}
path_aliases: {/logout: sign-out}
providers:
  - {id: demo, type: oidc, issuer: %[3]q, client_id: authproxy, client_secret: client-secret, scopes: [openid, email, profile, groups]}
sign_in: {allowed_domains: ["*"]}
identity: {claims: {login: id_token.email}}
cookie: {keys_file: %[4]q}
shutdown: {delay: 0s}
`

// An application with credentials, a token's cookie, a session and a sign-out of its
// own is none the wiser, and two people use it one after the other in one browser.
func TestAnApplicationKeepsItsOwnWays(t *testing.T) {
	t.Parallel()
	legacy := legacyapp.Handler("/auth")
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if who, begins := strings.CutPrefix(r.URL.Path, "/deep/begin/"); begins {
			w.Header().Set("Set-Cookie", "JSESSIONID="+who+"; Path=/deep; HttpOnly")
		}
		legacy.ServeHTTP(w, r)
	}))
	t.Cleanup(app.Close)
	address := freeAddress(t)
	base := "http://" + address
	file := writeFile(t, "authproxy.yaml", fmt.Sprintf(upstreamConfig, address, app.URL, startProvider(t, base), newKeys(t)))
	start(t, launch{args: []string{"--config", file}, base: base})

	browser := newClient(t, nil)
	signIn(t, browser, base, "alice")
	got := appAt(t, browser, base+"/deep/begin/alice")
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("proxy:secret-of-the-app"))
	if tenant, authorization := got.Headers.Get("X-Tenant"), got.Headers.Get("Authorization"); tenant != "demo/alice@example.com" || authorization != basic {
		t.Errorf("the application got X-Tenant %q and Authorization %q, want demo/alice@example.com and its credentials", tenant, authorization)
	}
	if cookies := got.Headers.Get("Cookie"); !strings.HasPrefix(cookies, "app_token=ey") || strings.Contains(cookies, "authproxy") {
		t.Error("the application got other cookies than a token, or one of ours")
	}
	if cookies := appAt(t, browser, base+"/deep/page").Headers.Get("Cookie"); !strings.Contains(cookies+";", "; JSESSIONID=alice;") {
		t.Errorf("the application got Cookie %q, want its session of alice", cookies)
	}

	own := http.Header{"Sec-Fetch-Site": {"same-origin"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"}}
	get(t, browser, base+"/logout", own)
	if res, body := get(t, browser, base+"/auth/session", nil); res.StatusCode != http.StatusOK || strings.TrimSpace(string(body)) != "null" {
		t.Errorf("after the application's own sign-out the session is %s", body)
	}
	signIn(t, browser, base, "bob")
	if cookies := appAt(t, browser, base+"/deep/page").Headers.Get("Cookie"); strings.Contains(cookies, "JSESSIONID") {
		t.Errorf("bob reaches the application with Cookie %q", cookies)
	}
}
