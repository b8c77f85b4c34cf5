package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"authproxy/devidp/legacyapp"
)

// startLiveApp starts an application with a WebSocket at /ws and a stream that
// does not end at /stream; the rest is the usual one.
func startLiveApp(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		conn.Read(r.Context()) // until the other side ends
	})
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.Handle("/", legacyapp.Handler("/auth"))
	app := httptest.NewServer(mux)
	t.Cleanup(app.Close)
	return app.URL
}

// Whoever signs out at the provider is signed out here, without a browser that
// says so: what is open ends within a second, and other people's sessions stay.
func TestSignOutAtACertifiedProviderEndsTheSessionHere(t *testing.T) {
	slow(t)
	t.Parallel()
	alice, bob := openBrowser(t), openBrowser(t)
	address := freeAddress(t)
	base := "http://" + address
	issuer, output := listenToOIDCProvider(t, base)
	config := oidcProviderConfig + fmt.Sprintf("session: {store: \"sqlite:%s\"}\n", filepath.Join(t.TempDir(), "sessions.db"))
	file := writeFile(t, "authproxy.yaml", fmt.Sprintf(config, address, startLiveApp(t), issuer, newKeys(t)))
	process := start(t, launch{args: []string{"--config", file}, base: base})

	alice.open(base + "/")
	alice.signInAtOIDCProvider("alice")
	bob.open(base + "/")
	bob.signInAtOIDCProvider("bob")
	cookies := alice.cookies(base + "/")
	expectIdentity(t, base, cookies, http.StatusOK)
	ended := openForGood(t, base, cookies)

	alice.open(issuer + "/session/end")
	alice.click("Yes, sign me out")
	eventually(t, 30*time.Second, func() error {
		if !strings.Contains(output.String(), "backchannel logout: success") {
			return errors.New("the provider has not told of the sign-out")
		}
		return nil
	})
	told := time.Now()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(told); took > 5*time.Second { // a second, and a busy machine's share
		t.Errorf("what was open ended %v after the sign-out, want within a second", took)
	}
	expectIdentity(t, base, cookies, http.StatusUnauthorized)
	bob.open(base + "/")
	bob.shows("Bob Brown")
	eventually(t, 30*time.Second, func() error {
		if log := process.stderr.String(); !strings.Contains(log, `"event":"backchannel_logout"`) || !strings.Contains(log, `"cause":"backchannel"`) {
			return errors.New("the log has no audit event of the logout")
		}
		return nil
	})
}

// openForGood opens a WebSocket and a stream with cookies. When one ends, nil
// comes, or what is wrong with how it ended.
func openForGood(t *testing.T, base string, cookies http.Header) <-chan error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	conn, _, err := websocket.Dial(ctx, base+"/ws", &websocket.DialOptions{HTTPHeader: cookies})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = cookies.Clone()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if err := expectStatus(res, http.StatusOK); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	go func() {
		_, _, err := conn.Read(ctx)
		if websocket.CloseStatus(err) == websocket.StatusPolicyViolation {
			err = nil
		}
		ended <- err
	}()
	go func() {
		_, err := res.Body.Read(make([]byte, 1))
		switch {
		case err == nil:
			err = errors.New("the stream sends something")
		case ctx.Err() == nil:
			err = nil
		}
		ended <- err
	}()
	return ended
}
