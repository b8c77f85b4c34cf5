package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/google/go-cmp/cmp"
)

// clientPage is a page that uses the browser library, under a policy as strict
// as they come.
const clientPage = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>A page</title>
<script src="/public/record.js"></script><script type="module" src="/public/page.js"></script></head>
<body><authproxy-user-button after-sign-out-url="/public/page?left=1"></authproxy-user-button><p>This is a page.</p></body></html>`

// recordScript notes what the library does: every request, and every message of
// any tab, this one's own included.
const recordScript = `
window.requests = [], window.messages = [], window.events = [], window.violations = [];
const fetched = window.fetch;
window.fetch = (input, init) => {
	requests.push((init?.method ?? input.method ?? "GET") + " " + new URL(input.url ?? input, location.href).pathname);
	return window.down ? Promise.reject(new TypeError("down")) : fetched(input, init);
};
window.wire = new BroadcastChannel("authproxy:/auth");
wire.onmessage = ({data}) => messages.push(data);
document.addEventListener("securitypolicyviolation", ({violatedDirective}) => violations.push(violatedDirective));
`

const pageScript = `
import auth, {onAuthStateChange, session} from "/auth/client.js";
if (auth !== window.authproxy || auth.session !== session) throw new Error("two libraries");
window.subscription = onAuthStateChange((event, session) => events.push(event + " " + (session?.user.email ?? "")));
`

const clientConfig = `
listen: %q
admin: {listen: %q}
public_url: %s
upstream: %s
providers:
  - {id: demo, type: oidc, issuer: %q, client_id: authproxy, client_secret: client-secret, sign_out: local}
sign_in: {allowed_domains: [example.com]}
cookie: {keys_file: %q}
rules: [{path: /public/**, allow: anyone}, {require: {signed_in: true}}]
shutdown: {delay: 0s}
%s
`

// startClientApp starts an application with such a page. It may call the origin
// api.
func startClientApp(t *testing.T, api string) string {
	t.Helper()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/public/record.js", "/public/page.js":
			w.Header().Set("Content-Type", "text/javascript")
			fmt.Fprint(w, map[string]string{"/public/record.js": recordScript, "/public/page.js": pageScript}[r.URL.Path])
		case "/plain":
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			fmt.Fprint(w, "<!doctype html><title>Plain</title><p>This is a plain page.")
		default:
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; connect-src 'self' "+api+"; require-trusted-types-for 'script'; base-uri 'none'")
			fmt.Fprint(w, clientPage)
		}
	}))
	t.Cleanup(app.Close)
	return app.URL
}

// startClientPages starts an authproxy in front of such an application and
// returns its address.
func startClientPages(t *testing.T, api, more string) *process {
	t.Helper()
	address := freeAddress(t)
	s := setup{listen: address, base: "http://" + address, admin: freeAddress(t), keys: newKeys(t), upstream: startClientApp(t, api)}
	s.issuer = startProvider(t, s.base)
	return startAuthproxy(t, s, more)
}

func startAuthproxy(t *testing.T, s setup, more string) *process {
	t.Helper()
	return start(t, s.launch(writeFile(t, "authproxy.yaml", fmt.Sprintf(clientConfig, s.listen, s.admin, s.base, s.upstream, s.issuer, s.keys, more))))
}

// script returns what a JavaScript expression in the page comes to.
func script[T any](b *tab, expression string) T {
	b.t.Helper()
	return ask(b, expression, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// becomes waits until an expression in the page is true.
func (b *tab) becomes(expression string) {
	b.t.Helper()
	eventually(b.t, stepLimit, func() error {
		if evaluate[bool](b, expression) {
			return nil
		}
		return fmt.Errorf("%s is not true; events %v, requests %v", expression, b.events(), evaluate[[]string](b, "requests"))
	})
}

func (b *tab) events() []string {
	b.t.Helper()
	return evaluate[[]string](b, "events")
}

// visit opens a page and waits until the library knows who is signed in.
func (b *tab) visit(url string) {
	b.t.Helper()
	b.open(url)
	b.becomes(`window.authproxy?.session.value.status !== "loading" && events.length > 0`)
}

// wire returns what was said between the tabs of a browser so far, as b heard it.
// Nothing is under way any more: a mark from every other tab, which comes after
// whatever that tab has said, has arrived.
func (b *tab) wire(others ...*tab) []string {
	b.t.Helper()
	for i, other := range others {
		mark := fmt.Sprintf("mark %d", i)
		evaluate[bool](other, fmt.Sprintf("wire.postMessage(%q) ?? true", mark))
		b.becomes(fmt.Sprintf("messages.includes(%q)", mark))
	}
	said := evaluate[[]string](b, `messages.filter(m => typeof m !== "string").map(m => JSON.stringify(m))`)
	evaluate[bool](b, `messages.length = 0, true`)
	return said
}

// signsIn signs in at the provider and comes back to path.
func (b *tab) signsIn(base, login, path string) {
	b.t.Helper()
	b.visit(base + "/auth/sign-in/demo?login_hint=" + login + "&rd=" + path)
}

func TestEveryTabHearsOfSignInAndSignOut(t *testing.T) {
	slow(t)
	t.Parallel()
	first := openBrowser(t)
	base := startClientPages(t, "", "").base
	second, third := first.another(), first.another()
	for _, tab := range []*tab{second, third} {
		tab.visit(base + "/public/page")
	}
	first.signsIn(base, "alice", "/page")
	id := script[string](first, `authproxy.getSession().then(({data}) => data.session.id)`)
	for _, tab := range []*tab{second, third} {
		tab.becomes(`events.includes("SIGNED_IN alice@example.com") && authproxy.session.get().status === "authenticated"`)
	}
	signedIn := fmt.Sprintf(`{"type":"SIGNED_IN","sid":%q,"v":1}`, id)
	if diff := cmp.Diff([]string{signedIn}, third.wire(first, second)); diff != "" {
		t.Errorf("at sign-in the tabs said something else than one sentence (-want +got):\n%s", diff)
	}

	if got := script[string](second, `authproxy.signOut({redirect: false}).then(({data, error}) => data.success + " " + error)`); got != "true null" {
		t.Errorf("signOut = %s, want success", got)
	}
	for _, tab := range []*tab{first, second, third} {
		tab.becomes(`events.at(-1) === "SIGNED_OUT " && authproxy.session.value.data === null`)
	}
	if diff := cmp.Diff([]string{`{"type":"SIGNED_OUT","sid":"","v":1}`}, third.wire(first, second)); diff != "" {
		t.Errorf("at sign-out the tabs said something else than one sentence (-want +got):\n%s", diff)
	}
	for tab, want := range map[*tab][]string{
		first:  {"INITIAL_SESSION alice@example.com", "SIGNED_OUT "},
		second: {"INITIAL_SESSION ", "SIGNED_IN alice@example.com", "SIGNED_OUT "},
		third:  {"INITIAL_SESSION ", "SIGNED_IN alice@example.com", "SIGNED_OUT "},
	} {
		if diff := cmp.Diff(want, tab.events()); diff != "" {
			t.Errorf("the events of a tab differ (-want +got):\n%s", diff)
		}
	}
}

// A tab that asks at once may ask a replica that has not heard yet, and then
// never again.
func TestATabThatHearsOfAChangeLeavesReplicasTimeToHear(t *testing.T) {
	slow(t)
	t.Parallel()
	first := openBrowser(t)
	base := startClientPages(t, "", "").base
	second := first.another()
	second.visit(base + "/public/page")
	first.visit(base + "/public/page")
	evaluate[bool](second, `Math.random = () => 0, (() => {
		const fetched = window.fetch;
		window.fetch = (...args) => (window.askedAt ??= performance.now(), fetched(...args));
		wire.addEventListener("message", () => window.heardAt ??= performance.now());
	})(), true`)
	evaluate[bool](first, `wire.postMessage({type: "SIGNED_OUT", sid: "", v: 1}) ?? true`)
	second.becomes(`window.askedAt > 0`)
	if after := evaluate[float64](second, `askedAt - heardAt`); after < 100 {
		t.Errorf("it asked %.0f ms after it had heard, want 100 at the least: SQLite tells of changes every 50", after)
	}
}

func TestAnAnswerFromBeforeASignOutBringsNothingBack(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	base := startClientPages(t, "", "").base
	b.signsIn(base, "alice", "/page")
	got := script[string](b, `(async () => {
		const fetched = window.fetch;
		let arrive;
		const arrived = new Promise(done => window.fetch = async (input, init) => {
			const answer = await fetched(input, init);
			if (init.method === "POST" && input.pathname === "/auth/session") await new Promise(go => done(arrive = go));
			return answer;
		});
		const late = authproxy.update();
		await arrived;
		await authproxy.signOut({redirect: false});
		arrive();
		await late;
		await authproxy.getSession();
		return [authproxy.session.get().status, ...events].join();
	})()`)
	if want := "unauthenticated,INITIAL_SESSION alice@example.com,SIGNED_OUT "; got != want {
		t.Errorf("the page is %s, want %s", got, want)
	}
}

// balance serves address and hands requests on to the replicas in turn.
func balance(t *testing.T, address string, replicas ...string) {
	t.Helper()
	var n atomic.Int64
	balancer := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = "http", replicas[int(n.Add(1))%len(replicas)]
	}})
	balancer.Listener.Close()
	var err error
	if balancer.Listener, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	balancer.Start()
	t.Cleanup(balancer.Close)
}

func TestTokensOfTwoReplicasAreNoNews(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	s, public := newSetup(t), ""
	s.upstream, public = startClientApp(t, ""), s.listen
	var replicas []string
	for range 2 {
		s.listen, s.admin = freeAddress(t), freeAddress(t)
		file := writeFile(t, "authproxy.yaml", fmt.Sprintf(clientConfig, s.listen, s.admin, s.base, s.upstream, s.issuer, s.keys, "jwt: {expose: session}"))
		start(t, launch{args: s.launch(file).args, base: "http://" + s.listen})
		replicas = append(replicas, s.listen)
	}
	balance(t, public, replicas...)
	b.signsIn(s.base, "alice", "/page")
	got := script[string](b, `(async () => {
		const served = new Set(), fetched = window.fetch;
		window.fetch = async (...args) => {
			const answer = await fetched(...args);
			served.add((await answer.clone().json()).session.access_token);
			return answer;
		};
		for (let i = 0; i < 8; i++) await authproxy.getSession();
		return [served.size, events.filter(event => event.startsWith("TOKEN_REFRESHED")).length].join();
	})()`)
	if got != "2,0" && got != "2,1" {
		t.Errorf("the tokens of the replicas and the events of 8 questions were %s, want 2 and at most one", got)
	}
}

func TestWhatGetSessionReturns(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	base := startClientPages(t, "", "").base
	b.visit(base + "/public/page")
	for expression, want := range map[string]string{
		`authproxy.getSession()`:                `{"data":{"session":null,"user":null},"error":null}`,
		`authproxy.auth.getSession()`:           `{"data":{"session":null,"user":null},"error":null}`,
		`authproxy.getSession({shape: "nevr"})`: `{"data":null,"error":null}`,
		`authproxy.getToken()`:                  `null`,
		`authproxy.listSessions().then(({data, error}) => [data, error.status, error.code])`: `[null,401,"unauthenticated"]`,
	} {
		if got := script[string](b, `(async () => JSON.stringify(await `+expression+`))()`); got != want {
			t.Errorf("signed out: %s = %s, want %s", expression, got, want)
		}
	}
	b.signsIn(base, "alice", "/page")
	want := `["alice@example.com","alice@example.com",true,"alice@example.com",null]`
	for _, shape := range []string{"", `{shape: "nevr"}`} {
		if got := script[string](b, `authproxy.getSession(`+shape+`).then(({data: {session, user}, error}) =>
			JSON.stringify([user.email, session.user.email, session.userId === user.id, authproxy.$session.value.data.user.email, error]))`); got != want {
			t.Errorf("signed in: getSession(%s) = %s, want %s", shape, got, want)
		}
	}
	got := script[string](b, `(async () => {
		const seen = [], stop = authproxy.session.subscribe(({status}) => seen.push(status));
		const heard = [], end = authproxy.session.listen(({status}, before) => heard.push(before.status + " to " + status));
		await authproxy.signOut({redirect: false});
		stop(), end();
		await authproxy.getSession();
		return JSON.stringify([seen, heard]);
	})()`)
	if want := `[["authenticated","unauthenticated"],["authenticated to unauthenticated"]]`; got != want {
		t.Errorf("subscribe and listen saw %s, want %s", got, want)
	}
}

func TestATokenStaysInMemoryAndGoesWhereItMay(t *testing.T) {
	slow(t)
	t.Parallel()
	b := openBrowser(t)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
		w.Header().Set("Access-Control-Allow-Headers", "Authorization, X-A")
		fmt.Fprint(w, r.Header.Get("Authorization"))
	}))
	t.Cleanup(api.Close)
	base := startClientPages(t, "http://127.0.0.1:* http://localhost:*", "").base
	b.signsIn(base, "alice", "/page")
	second := b.another()
	second.visit(base + "/page")

	token := script[string](b, `authproxy.getToken()`)
	expectToken(t, base, "Bearer "+token, script[string](b, `authproxy.getSession().then(({data}) => data.user.id)`))
	elsewhere := strings.Replace(api.URL, "127.0.0.1", "localhost", 1)
	for _, step := range []struct{ do, want string }{
		{`authproxy.fetch("` + api.URL + `/data")`, ""},
		{`authproxy.start({allowedOrigins: ["` + api.URL + `"]}) ?? authproxy.fetch("` + api.URL + `/data")`, "Bearer " + token},
		{`authproxy.fetch(new Request("` + api.URL + `/data", {headers: {"X-A": "b"}}))`, "Bearer " + token},
		{`authproxy.fetch("` + elsewhere + `/data")`, ""},
	} {
		if got := script[string](b, step.do+`.then(answer => answer.text())`); got != step.want {
			t.Errorf("%s sends Authorization %q, want %q", step.do, got, step.want)
		}
	}
	asked := `requests.filter(request => request === "GET /auth/token").length`
	if got := evaluate[int](b, asked); got != 1 {
		t.Errorf("the server was asked %d times for a token that is good, want once", got)
	}
	evaluate[bool](b, `(now => Date.now = () => now() + 14 * 60_000 + 10_000)(Date.now), true`) // of 15 minutes
	if got := script[int](b, `authproxy.getToken().then(() => `+asked+`)`); got != 2 {
		t.Errorf("the server was asked %d times after the token came near its end, want twice", got)
	}
	if got := b.events(); !slices.Contains(got, "TOKEN_REFRESHED alice@example.com") {
		t.Errorf("events %v, want TOKEN_REFRESHED among them", got)
	}
	kept := evaluate[string](b, `JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])`)
	for _, place := range append(second.wire(b), kept) {
		if strings.Contains(place, token) || strings.Contains(place, "eyJ") {
			t.Errorf("the token is kept or told where other scripts find it: %s", place)
		}
	}
}

func TestOneTabKeepsTheSessionAlive(t *testing.T) {
	slow(t)
	t.Parallel()
	first := openBrowser(t)
	base := startClientPages(t, "", "").base
	first.signsIn(base, "alice", "/page")
	second := first.another()
	second.visit(base + "/page")
	posts := `requests.filter(request => request === "POST /auth/session").length`
	evaluate[bool](first, `authproxy.start({keepAlive: 0.2}) ?? true`)
	first.becomes(posts + " > 0")
	evaluate[bool](second, `authproxy.start({keepAlive: 0.2}) ?? true`)
	before := evaluate[int](first, posts)
	first.becomes(fmt.Sprintf("%s > %d", posts, before+3))
	if got := evaluate[int](second, posts); got != 0 {
		t.Errorf("the second tab extended the session %d times while the first one does, want 0", got)
	}
	evaluate[bool](first, `authproxy.start() ?? true`)
	second.becomes(posts + " > 1")
	before = evaluate[int](first, posts)
	second.becomes(posts + " > 3")
	if got := evaluate[int](first, posts); got != before {
		t.Errorf("the first tab goes on although it was told to stop: %d times, then %d", before, got)
	}
	if got := second.events(); !slices.Contains(got, "TOKEN_REFRESHED alice@example.com") {
		t.Errorf("events %v, want TOKEN_REFRESHED among them", got)
	}
}

func TestAPageHearsOfTheEndOfItsSession(t *testing.T) {
	slow(t)
	t.Parallel()
	b := openBrowser(t)
	base := startClientPages(t, "", "session: {max_age: 6s, update_age: 1s}").base
	b.signsIn(base, "alice", "/page")
	b.becomes(`events.at(-1) === "SESSION_EXPIRED "`) // it asks nobody to ask
	if got := b.location(); got != "/page" {
		t.Errorf("the page is at %s, want it to stay", got)
	}
}

func TestAServerThatIsDownSignsNobodyOut(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	base := startClientPages(t, "", "").base
	b.signsIn(base, "alice", "/page")
	got := script[string](b, `(async () => {
		window.down = true;
		const {data, error} = await authproxy.getSession();
		const {status} = authproxy.session.get();
		window.down = false;
		const later = await authproxy.getSession();
		return [data.user.email, error.message, status, later.error, events.length].join();
	})()`)
	if want := "alice@example.com,down,authenticated,,1"; got != want {
		t.Errorf("while the server is down: %s, want %s", got, want)
	}
}

func TestWhenAPageAsksAgain(t *testing.T) {
	slow(t)
	t.Parallel()
	b := openBrowser(t)
	base := startClientPages(t, "", "").base
	b.signsIn(base, "alice", "/page")
	asked := `requests.filter(request => request === "GET /auth/session").length`
	got := script[string](b, `(async () => {
		const seen = [], look = async event => { dispatchEvent(new Event(event)); await 0; seen.push(`+asked+`); };
		await look("focus");
		await look("pageshow");
		const now = Date.now;
		Date.now = () => now() + 5_000;
		await look("focus");
		await look("focus");
		authproxy.start({refetchOnWindowFocus: false});
		Date.now = () => now() + 60_000;
		await look("focus");
		return seen.join();
	})()`)
	if want := "1,1,2,2,2"; got != want {
		t.Errorf("asked %s times at the focus, want %s: at most every 5 s, and not where that is off", got, want)
	}
	evaluate[bool](b, `authproxy.start({refetchInterval: 0.2}) ?? true`)
	b.becomes(asked + " > 5")
	if got := evaluate[string](b, `events.join()`); got != "INITIAL_SESSION alice@example.com" {
		t.Errorf("asking again made the events %s", got)
	}
}

func TestTheDeclarationsNameAllThereIs(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	base := startClientPages(t, "", "").base
	b.visit(base + "/public/page")
	_, declarations := get(t, http.DefaultClient, base+"/auth/client.d.ts", nil)
	names := script[[]string](b, `import("/auth/client.js").then(module => [...Object.keys(authproxy), ...Object.keys(module)])`)
	for _, name := range names {
		if !regexp.MustCompile(`(?m)^(\t(readonly )?|export (const )?)`+regexp.QuoteMeta(name)+`\b`).Match(declarations) && name != "$session" {
			t.Errorf("client.d.ts does not declare %s", name)
		}
	}
	if len(names) < 25 {
		t.Errorf("the library has %v, want more", names)
	}
}

func TestAScriptStartsASignIn(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	base := startClientPages(t, "", "").base
	b.visit(base + "/public/page?a=b")
	got := script[string](b, `authproxy.signIn.social({provider: "nobody"}).then(({data, error}) => [data, error.status, error.code].join())`)
	if want := ",404,unknown_provider"; got != want {
		t.Errorf("sign-in at a provider that there is not = %s, want %s", got, want)
	}
	b.leads("call signIn.social", chromedp.Evaluate[chromedp.Void](`void authproxy.signIn.social({provider: "demo"})`))
	b.click("Alice Adams")
	b.becomes(`location.search === "?a=b" && window.events?.includes("INITIAL_SESSION alice@example.com")`)
}

func TestTheUserButton(t *testing.T) {
	slow(t)
	t.Parallel()
	b := openBrowser(t)
	base := startClientPages(t, "", "").base
	root := `document.querySelector("authproxy-user-button").shadowRoot`
	b.visit(base + "/public/page?a=b#c")
	b.becomes(root + `?.querySelector("a")?.innerText === "Sign in"`)
	b.do("press Tab", chromedp.KeyEvent(kb.Tab))
	b.press(kb.Enter)
	b.click("Alice Adams")
	b.becomes(`location.href.endsWith("/public/page?a=b#c") && ` + root + `?.querySelector("summary")?.ariaLabel === "Account of Alice Adams"`)
	for _, scheme := range []string{"light", "dark"} {
		b.prefer(scheme)
		b.picture("user-button-"+scheme, 360, 400)
	}

	open := func() bool { return evaluate[bool](b, root+`.querySelector("details").open`) }
	b.do("press Tab", chromedp.KeyEvent(kb.Tab))
	b.do("press Enter", chromedp.KeyEvent(kb.Enter))
	if !open() {
		t.Fatal("Enter does not open the menu")
	}
	for _, side := range []string{"left", "right"} { // of the window
		evaluate[bool](b, `document.querySelector("authproxy-user-button").style.cssFloat = "`+side+`", `+root+`.querySelector("summary").click() ?? `+root+`.querySelector("summary").click() ?? true`)
		if got := evaluate[string](b, `(({left, right}) => left >= 0 && right <= innerWidth ? "" : left + " to " + right)(`+root+`.querySelector(".menu").getBoundingClientRect())`); got != "" {
			t.Errorf("at the %s of the window the menu reaches from %s px", side, got)
		}
	}
	b.picture("user-button-open", 360, 400)
	b.do("press Escape", chromedp.KeyEvent(kb.Escape))
	if focus := evaluate[string](b, root+`.activeElement.tagName`); open() || focus != "SUMMARY" {
		t.Errorf("after Escape: open %v, focus on %s; want it closed, and the focus on its button", open(), focus)
	}
	b.do("press Enter", chromedp.KeyEvent(kb.Enter))
	for range 2 { // past the link to the account
		b.do("press Tab", chromedp.KeyEvent(kb.Tab))
	}
	if got := evaluate[string](b, root+`.activeElement.innerText`); got != "Sign out" {
		t.Fatalf("the Tab key leads to %q, want Sign out", got)
	}
	if res := b.press(kb.Enter); res.URL != base+"/public/page?left=1" {
		t.Errorf("sign-out ended at %s, want after-sign-out-url", res.URL)
	}
	b.becomes(root + `?.querySelector("a")?.innerText === "Sign in"`)
	if got := evaluate[[]string](b, "violations"); len(got) > 0 {
		t.Errorf("a strict policy is violated: %v", got)
	}
}
