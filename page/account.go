package page

import (
	"fmt"
	"net/http"
	"time"
)

// Account is the content of [Renderer.Account].
type Account struct {
	Name, Email string // who is signed in
	Provider    string // what the provider is called; optional
	Home        string // URL of the application; optional

	// Devices are where the person is signed in, the current one first, and
	// Complete says whether these are all.
	Devices  []Device
	Complete bool
	// Action is where the forms are posted to: "action" is revoke, with the "id"
	// of a device, or others, or all. FormAction is as in [SignOut].
	Action     string
	FormAction []string

	// Done is what was just done, [DoneOne] or [DoneOthers]; anything else says
	// nothing.
	Done string
	Now  time.Time // to tell how long ago something was
}

// What was just done.
const (
	DoneOne    = "one"    // one device was signed out
	DoneOthers = "others" // all others were
)

// A Device is one session of a person.
type Device struct {
	ID             string
	Name           string // "Firefox on Linux"
	IP             string // where the sign-in came from; optional
	Current        bool   // it asks
	SignedIn, Seen time.Time
}

// accountView is an Account with what the template cannot work out.
type accountView struct {
	Account
	Notice string
	Others bool // there are other devices
}

// Account answers 200 with the page of a person: who they are, where they are
// signed in, and buttons to sign out there.
func (p *Renderer) Account(w http.ResponseWriter, r *http.Request, a Account) {
	v := accountView{Account: a, Others: len(a.Devices) > 1}
	switch a.Done {
	case DoneOne:
		v.Notice = "That device has been signed out."
	case DoneOthers:
		v.Notice = "All other devices have been signed out."
	}
	SecurityHeaders(w.Header())
	w.Header().Set("Content-Security-Policy", contentSecurityPolicy(a.FormAction))
	p.render(w, r, http.StatusOK, "account.html", view{Title: "Your account", Icon: "person", Page: v})
}

// When says how long before a.Now t was, as one would in conversation, and a date
// where that is longer than a week.
func (a Account) When(t time.Time) string {
	switch d := a.Now.Sub(t); {
	case d < 2*time.Minute:
		return "just now"
	case d < 2*time.Hour:
		return fmt.Sprintf("%d minutes ago", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours ago", d/time.Hour)
	case d < 7*24*time.Hour:
		return fmt.Sprintf("%d days ago", d/(24*time.Hour))
	}
	return "on " + t.UTC().Format("2 January 2006")
}

// Stamp returns t for machines.
func (a Account) Stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
