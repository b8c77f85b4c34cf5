package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"authproxy/devidp"
)

// pagesConfig has every reason to show a page: three providers, one of which is
// down, an application that is down, and people who may not do everything.
const pagesConfig = `
listen: %[1]q
admin: {listen: ""}
public_url: http://%[1]s
upstream: %[2]s
routes: [{path: /down/**, upstream: "http://%[3]s"}]
providers:
  - {id: demo, name: Example Corp, type: oidc, issuer: %[4]q, client_id: authproxy, client_secret: client-secret, scopes: [openid, email, profile, groups]}
  - {id: partners, name: Partners and Suppliers of Example Corporation, type: oidc, issuer: "http://%[3]s", client_id: authproxy}
  - {id: down, type: oidc, issuer: "http://%[3]s", client_id: authproxy}
sign_in: {allowed_emails: [alice@example.com, bob.with-a-rather-long-address@department.example.com]}
rules:
  - {name: only administrators may open this, path: /admin/**, require: {groups: [admins]}}
  - {require: {signed_in: true}}
cookie: {keys_file: %[5]q}
shutdown: {delay: 0s}
`

// pagesUsers are alice, who may do everything, bob, who may not, and carol, who
// may not even have a session.
func pagesUsers() []devidp.User {
	users := devidp.DemoUsers()
	users[1].Email = "bob.with-a-rather-long-address@department.example.com"
	return append(users, devidp.User{
		Login: "carol", Subject: "0d9b4c55e6f1a273", Email: "carol@elsewhere.example", EmailVerified: true, Name: "Carol Clark",
	})
}

// A page is one that people see, and the way there in a fresh browser.
type page struct {
	name   string
	status int64
	visit  func(b *tab) int64 // returns the status
}

// pages returns all there are, of an authproxy at base, of the demo, and of an
// authproxy with a store.
func pages(base, demo, stored string) []page {
	signIn := func(b *tab, base, login, rd string) int64 {
		return b.open(base + "/auth/sign-in/demo?login_hint=" + login + "&rd=" + rd).Status
	}
	opening := func(url string) func(*tab) int64 { return func(b *tab) int64 { return b.open(url).Status } }
	return []page{
		{"chooser-three", 200, opening(base + "/auth/sign-in")},
		{"chooser-after-sign-out", 200, func(b *tab) int64 {
			signIn(b, demo, "alice", "/")
			return b.click("Sign out").Status
		}},
		{"sign-out", 200, func(b *tab) int64 {
			signIn(b, base, "bob", "/")
			return b.open(base + "/auth/sign-out").Status
		}},
		{"account-cookie", 200, func(b *tab) int64 { return signIn(b, base, "bob", "/auth/account") }},
		{"account", 200, func(b *tab) int64 {
			for range 2 {
				signIn(openBrowser(b.t), stored, "alice", "/")
			}
			signIn(b, stored, "alice", "/")
			return b.open(stored + "/auth/account").Status
		}},
		{"signed-out", 200, opening(base + "/auth/sign-out")},
		{"400-callback", 400, opening(base + "/auth/callback/demo?state=unknown&code=unknown")},
		{"400-ambiguous-path", 400, opening(base + "/a%2fb")},
		{"401", 401, opening(base + "/auth/userinfo")},
		{"403-by-rule", 403, func(b *tab) int64 { return signIn(b, base, "bob", "/admin/panel") }},
		{"403-not-admitted", 403, func(b *tab) int64 { return signIn(b, base, "carol", "/") }},
		{"403-cancelled", 403, func(b *tab) int64 {
			b.open(base + "/auth/sign-in/demo")
			return b.click("Cancel").Status
		}},
		{"404", 404, opening(base + "/auth/no-such-page")},
		{"502-upstream-down", 502, func(b *tab) int64 { return signIn(b, base, "alice", "/down/page") }},
		{"503-sign-in-unavailable", 503, opening(base + "/auth/sign-in/down")},
		{"devidp", 200, opening(base + "/auth/sign-in/demo")},
		{"devidp-refuses", 400, func(b *tab) int64 {
			b.open(base + "/auth/sign-in/demo")
			return b.open(evaluate[string](b, `location.origin`) + "/authorize").Status
		}},
		{"demo-app", 200, func(b *tab) int64 { return signIn(b, demo, "alice", "/") }},
		{"demo-app-anonymous", 200, opening(demo + "/public/hello")},
	}
}

func TestEveryPageCanBeRead(t *testing.T) {
	slow(t)
	t.Parallel()
	need(t, "chromium")
	address := freeAddress(t)
	base := "http://" + address
	issuer := startProvider(t, base, pagesUsers()...)
	file := writeFile(t, "authproxy.yaml", fmt.Sprintf(pagesConfig, address, startApp(t), freeAddress(t), issuer, newKeys(t)))
	start(t, launch{args: []string{"--config", file}, base: base})
	for _, p := range pages(base, startDemo(t), startClientPages(t, "", "session: {store: memory}").base) {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			browser := openBrowser(t)
			if status := p.visit(browser); status != p.status {
				t.Errorf("the page at %s has status %d, want %d", browser.location(), status, p.status)
			}
			for _, scheme := range []string{"light", "dark"} {
				browser.prefer(scheme)
				browser.expectNoSidewaysScrolling(320)
				browser.expectContrast(scheme)
				browser.picture(p.name+"-"+scheme+"-360x740", 360, 740)
				browser.picture(p.name+"-"+scheme+"-1280x800", 1280, 800)
			}
		})
	}
}

// prefer chooses a color scheme, as people do in their system's settings.
func (b *tab) prefer(scheme string) {
	b.t.Helper()
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		// Colors fade in otherwise, and would be judged half-way.
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
	})
}

// resize makes the window as large as a device's.
func (b *tab) resize(width, height int64) {
	b.t.Helper()
	b.do("resize", chromedp.EmulateViewport(width, height))
}

// expectNoSidewaysScrolling fails if a page is wider than a narrow phone (WCAG
// 2.2, success criterion 1.4.10).
func (b *tab) expectNoSidewaysScrolling(width int64) {
	b.t.Helper()
	b.resize(width, 640)
	if got := evaluate[int64](b, `document.documentElement.scrollWidth`); got > width {
		b.t.Errorf("the page is %d px wide in a window of %d px, and scrolls sideways", got, width)
	}
}

// contrastScript returns a sentence for each text whose contrast with what is
// behind it is below 4.5, or 3 for large text (WCAG 2.2, success criterion
// 1.4.3). A canvas reads any color that CSS can write.
const contrastScript = `(() => {
	const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
	const over = (colors) => {
		canvas.globalCompositeOperation = "source-over";
		for (const color of colors) {
			canvas.fillStyle = color;
			canvas.fillRect(0, 0, 1, 1);
		}
		return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
	};
	const luminance = (rgb) => {
		const [r, g, b] = rgb.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	const dark = matchMedia("(prefers-color-scheme: dark)").matches;
	const behind = (element) => {
		const colors = [];
		for (let e = element; e; e = e.parentElement) colors.unshift(getComputedStyle(e).backgroundColor);
		return [dark ? "black" : "white", ...colors];
	};
	const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	const problems = [];
	while (walker.nextNode()) {
		const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
		if (text === "" || !element.checkVisibility() || element.tagName === "STYLE" || element.tagName === "SCRIPT") continue;
		const style = getComputedStyle(element), size = parseFloat(style.fontSize);
		const background = behind(element);
		const [low, high] = [over(background), over([...background, style.color])].map(luminance).sort((a, b) => a - b);
		const ratio = (high + 0.05) / (low + 0.05), large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
		if (ratio < (large ? 3 : 4.5)) problems.push(text.slice(0, 40) + ": " + ratio.toFixed(2));
	}
	return problems;
})()`

// expectContrast fails for text that is hard to read.
func (b *tab) expectContrast(scheme string) {
	b.t.Helper()
	for _, problem := range evaluate[[]string](b, contrastScript) {
		b.t.Errorf("too little contrast in the %s scheme: %s", scheme, problem)
	}
}

// picture leaves a picture of the page in a window of that size where somebody
// asked for pictures.
func (b *tab) picture(name string, width, height int64) {
	b.t.Helper()
	dir := os.Getenv("AUTHPROXY_TEST_SCREENSHOTS")
	if dir == "" {
		return
	}
	b.resize(width, height)
	image := ask(b, "take a picture", chromedp.FullScreenshot(100))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), image, 0o644); err != nil {
		b.t.Fatal(err)
	}
}
