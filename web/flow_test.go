package web

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestAUsedFlowIsRememberedAsLongAsItsCookieOpens(t *testing.T) {
	u, now := newUsedFlows(), time.Unix(1_800_000_000, 0)
	for _, step := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {0, false}, {flowAge - time.Second, false}, {flowAge, true}} {
		if got := u.first("A", now.Add(step.after)); got != step.want {
			t.Errorf("first after %v = %v, want %v", step.after, got, step.want)
		}
	}
}

func TestTheListOfUsedFlowsIsBounded(t *testing.T) {
	u, now := newUsedFlows(), time.Unix(1_800_000_000, 0)
	for i := range maxUsed + 100 {
		if !u.first(fmt.Sprint(i), now) {
			t.Fatalf("flow %d counts as used", i)
		}
	}
	if len(u.seen) != maxUsed || u.order.Len() != maxUsed {
		t.Errorf("%d flows in the map and %d in the list, want %d", len(u.seen), u.order.Len(), maxUsed)
	}
	if u.first(fmt.Sprint(maxUsed+99), now) {
		t.Error("the newest was forgotten, want the oldest")
	}
	u.first("later", now.Add(flowAge))
	if len(u.seen) != 1 || u.order.Len() != 1 {
		t.Errorf("%d flows are remembered after their time, want the new one only", len(u.seen))
	}
}

func TestFlowIDsBecomeCookieNames(t *testing.T) {
	for id, want := range map[string]bool{
		"ABCDEFGHIJKLMNOPQRSTUVWXYZ": true, "2345672345672345": true,
		"": false, "ABCDEFGHIJKLMNO": false, strings.Repeat("A", 33): false,
		"abcdefghijklmnop": false, "ABCDEFGHIJKLMNO;": false, "ABCDEFGHIJKLMNO=": false, "ABCDEFGHIJKLMN\r\n": false, "ABCDEFGHIJKLMNO1": false,
	} {
		if got := isFlowID(id); got != want {
			t.Errorf("isFlowID(%q) = %v, want %v", id, got, want)
		}
	}
}

func TestOwnsCookie(t *testing.T) {
	for name, want := range map[string]bool{
		"authproxy_flow_X": true, "__Host-authproxy_flow_X": true, "__Secure-authproxy_flow_X": true, "__Host-authproxy_signed_out": true, "__Host-authproxy_handoff_X": true, "authproxy_signed_in": true,
		"authproxy_session": false, "flow": false, "authproxy_signed_out2": false, "x_authproxy_flow_": false, "": false,
	} {
		if got := OwnsCookie(name); got != want {
			t.Errorf("OwnsCookie(%q) = %v, want %v", name, got, want)
		}
	}
}

func TestARedirectLeavesItsTargetAlone(t *testing.T) {
	for _, target := range []string{"/a//b/../c", "/#/x/../y", "/a?b=//c", "https://app.example.com/%2e"} {
		w := httptest.NewRecorder()
		redirect(w, target, http.StatusFound)
		if got := w.Header().Get("Location"); got != target {
			t.Errorf("Location = %q, want %q", got, target)
		}
	}
}

func TestAnAskIsForOneNonce(t *testing.T) {
	a := ask{ID: "A", Nonce: hash("secret")}
	for _, tt := range []struct {
		name string
		fl   flow
		want bool
	}{
		{"its own", flow{ID: "A", Nonce: "secret"}, true},
		{"another nonce", flow{ID: "A", Nonce: "guess"}, false},
		{"another hand-off", flow{ID: "B", Nonce: "secret"}, false},
		{"no cookie", flow{}, false},
	} {
		if got := a.isFor(tt.fl); got != tt.want {
			t.Errorf("%s: isFor = %v, want %v", tt.name, got, tt.want)
		}
	}
	if none := (&ask{}); none.isFor(flow{}) {
		t.Error("an ask without a nonce is for anybody")
	}
}
