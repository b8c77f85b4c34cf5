package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// stepLimit is how long one step of a person in a browser may take.
const stepLimit = 30 * time.Second

// A chromium is the browser of all tests, started by the first that needs it.
type chromium struct {
	profile string // an empty folder
	once    sync.Once
	ctx     context.Context
	err     error
}

// start starts the browser with nothing that would leave loopback.
func (c *chromium) start(path string) (context.Context, error) {
	c.once.Do(func() {
		allocator, _ := chromedp.NewExecAllocator(context.Background(),
			chromedp.ExecPath(path), chromedp.UserDataDir(c.profile),
			chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
			chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
			chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
			chromedp.Flag("disable-dev-shm-usage", true),
			chromedp.Flag("host-resolver-rules", "MAP *.one.test 127.0.0.1, MAP *.two.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"),
		)
		ctx, _ := chromedp.NewContext(allocator)
		// The first Run binds the browser's life to its context: no time limit.
		if c.err = chromedp.Do(ctx); c.err == nil {
			c.ctx = ctx
		}
	})
	return c.ctx, c.err
}

// stop ends the browser if it was started.
func (c *chromium) stop() error {
	if c.ctx == nil {
		return nil
	}
	return chromedp.Cancel(c.ctx)
}

// A tab is one tab of a browser, and a person in front of it. Its methods fail
// the test when a step does not work.
type tab struct {
	t   *testing.T
	ctx context.Context
}

// openBrowser opens a browser that nobody has used before: no cookies, no
// history.
func openBrowser(t *testing.T) *tab {
	t.Helper()
	browser, err := shared.chromium.start(findChromium(t))
	if err != nil {
		t.Fatalf("chromium does not start: %v", err)
	}
	return newTab(t, browser, chromedp.WithNewBrowserContext())
}

// findChromium returns the path of Chromium, if possible of the one without windows:
// the same engine, in a quarter of the processor time.
func findChromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium-headless-shell", "chromium"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return need(t, "chromium-headless-shell")
}

// another opens a second tab of the same browser.
func (b *tab) another() *tab {
	b.t.Helper()
	return newTab(b.t, b.ctx)
}

func newTab(t *testing.T, parent context.Context, opts ...chromedp.ContextOption) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(parent, opts...)
	t.Cleanup(cancel)
	b := &tab{t, ctx}
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	// Tests run side by side, and only one window has the focus.
	call(b, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	return b
}

// open goes to url and returns the response at the end of its redirects.
func (b *tab) open(url string) *network.Response {
	b.t.Helper()
	return b.leads("open "+url, chromedp.Navigate(url))
}

// click clicks the link or button with that text, which leads to another page.
func (b *tab) click(text string) *network.Response {
	b.t.Helper()
	return b.leads("click "+text, chromedp.Click(button(text)))
}

// press presses a key that leads to another page.
func (b *tab) press(key string) *network.Response {
	b.t.Helper()
	return b.leads("press a key", chromedp.KeyEvent(key))
}

// focus goes with the Tab key to the link or button that shows text.
func (b *tab) focus(text string) {
	b.t.Helper()
	for range 10 {
		b.do("press Tab", chromedp.KeyEvent(kb.Tab))
		if at := evaluate[string](b, `document.activeElement.innerText`); strings.Contains(at, text) {
			return
		}
	}
	b.t.Fatalf("the Tab key does not lead to %q", text)
}

// fill writes into the input called name.
func (b *tab) fill(name, text string) {
	b.t.Helper()
	b.do("fill "+name, chromedp.SendKeys(chromedp.CSS("input[name="+name+"]"), text))
}

// back presses the browser's back button. It fails for a page that comes out of
// the browser's memory as it was: that one does not load.
func (b *tab) back() {
	b.t.Helper()
	b.do("go back to a page that is asked for again", chromedp.NavigateBack())
}

// text returns what the page shows.
func (b *tab) text() string {
	b.t.Helper()
	return evaluate[string](b, `document.body.innerText`)
}

// location returns the path and query that the browser is at.
func (b *tab) location() string {
	b.t.Helper()
	return evaluate[string](b, `location.pathname + location.search`)
}

// cookies returns the Cookie header that the browser would send to url.
func (b *tab) cookies(url string) http.Header {
	b.t.Helper()
	jar := call(b, network.GetCookies, network.GetCookiesParams{URLs: []string{url}})
	var pairs []string
	for _, c := range jar.Cookies {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	return http.Header{"Cookie": {strings.Join(pairs, "; ")}}
}

// disableScripts switches JavaScript off, as a careful person does.
func (b *tab) disableScripts() {
	b.t.Helper()
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
}

// shows fails unless the page shows text.
func (b *tab) shows(text string) {
	b.t.Helper()
	if got := b.text(); !strings.Contains(got, text) {
		b.t.Errorf("the page at %s does not show %q:\n%s", b.location(), text, got)
	}
}

// hides fails if the page shows text.
func (b *tab) hides(text string) {
	b.t.Helper()
	if got := b.text(); strings.Contains(got, text) {
		b.t.Errorf("the page at %s shows %q:\n%s", b.location(), text, got)
	}
}

// leads takes a step that leads to another page and returns its response.
func (b *tab) leads(what string, step chromedp.Action[chromedp.Void]) *network.Response {
	b.t.Helper()
	res, err := b.follow(step)
	if err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
	return res
}

// follow is leads for a goroutine, which must not end the test.
func (b *tab) follow(step chromedp.Action[chromedp.Void]) (*network.Response, error) {
	ctx, cancel := context.WithTimeout(b.ctx, stepLimit)
	defer cancel()
	return chromedp.RunResponse(ctx, step)
}

// do takes a step that stays on the page.
func (b *tab) do(what string, step chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepLimit)
	defer cancel()
	if err := chromedp.Do(ctx, step); err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
}

// evaluate returns the value of a JavaScript expression in the page. The
// debugger may do so where scripts are switched off, too.
func evaluate[T any](b *tab, expression string) T {
	b.t.Helper()
	return ask(b, expression, chromedp.Evaluate[T](expression))
}

// ask takes a step that has a value.
func ask[T any](b *tab, what string, step chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepLimit)
	defer cancel()
	value, err := chromedp.Run(ctx, step)
	if err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
	return value
}

// call sends the browser a command of its protocol.
func call[P, R any](b *tab, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepLimit)
	defer cancel()
	result, err := chromedp.Call(ctx, command, params)
	if err != nil {
		b.t.Fatalf("%s: %v", command.Method, err)
	}
	return result
}

// button selects the link or button that shows text.
func button(text string) chromedp.Search {
	return chromedp.Search(fmt.Sprintf(`//*[self::a or self::button][contains(normalize-space(.), %q)]`, text))
}
