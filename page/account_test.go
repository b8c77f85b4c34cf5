package page

import (
	"net/http"
	"testing"
	"time"
)

func TestWhenSomethingWas(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for before, want := range map[time.Duration]string{
		-time.Hour: "just now", 0: "just now", 2*time.Minute - 1: "just now", 2 * time.Minute: "2 minutes ago", 2*time.Hour - 1: "119 minutes ago",
		2 * time.Hour: "2 hours ago", 48*time.Hour - 1: "47 hours ago", 48 * time.Hour: "2 days ago", 7*24*time.Hour - 1: "6 days ago",
		7 * 24 * time.Hour: "on 22 February 2026",
	} {
		if got := (Account{Now: now}).When(now.Add(-before)); got != want {
			t.Errorf("%v before: %q, want %q", before, got, want)
		}
	}
}

func TestWhatTheAccountPageOffers(t *testing.T) {
	p, _ := newRenderer(t)
	two := []Device{{ID: "1", Name: "Firefox on Linux", Current: true}, {ID: "2", Name: "Safari on iPhone"}}
	for name, test := range map[string]struct {
		account Account
		buttons []string // what they are called
	}{
		"two devices":                {Account{Devices: two, Complete: true}, []string{"Sign out this device", "Sign out Safari on iPhone, active on 1 January 0001", "Sign out everywhere else", "Sign out everywhere"}},
		"one device":                 {Account{Devices: two[:1], Complete: true}, []string{"Sign out this device", "Sign out everywhere"}},
		"more than are shown":        {Account{Devices: two}, []string{"Sign out this device", "Sign out Safari on iPhone, active on 1 January 0001", "Sign out everywhere else", "Sign out everywhere"}},
		"only this one can be known": {Account{Devices: two[:1]}, []string{"Sign out this device"}},
	} {
		t.Run(name, func(t *testing.T) {
			test.account.Now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
			_, doc := get(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.Account(w, r, test.account) }))
			buttons := elements(doc, "button")
			if len(buttons) != len(test.buttons) {
				t.Fatalf("%d buttons, want %v", len(buttons), test.buttons)
			}
			for i, b := range buttons {
				got := attr(b, "aria-label")
				if got == "" {
					got = text(b)
				}
				if got != test.buttons[i] || attr(b, "type") != "submit" {
					t.Errorf("button %d is called %q and of type %q, want %q and submit", i, got, attr(b, "type"), test.buttons[i])
				}
			}
		})
	}
}
