package devidp

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// ErrLogoutToken is wrapped by the errors of [Server.IssueLogoutToken] for a
// token that no client could accept.
var ErrLogoutToken = errors.New("devidp: no such logout token")

// serveEndSession is OpenID Connect RP-Initiated Logout 1.0. Everything is
// checked before anything ends. There is no question to the user: the demo has
// nothing to lose by a sign-out.
func (s *Server) serveEndSession(w http.ResponseWriter, r *http.Request, _ *Faults) error {
	form, err := endSessionForm(r)
	if err != nil {
		return err
	}
	client, err := s.logoutClient(form)
	if err != nil {
		return err
	}
	target := form.Get("post_logout_redirect_uri")
	if target != "" && (client == nil || !slices.Contains(client.PostLogoutRedirectURIs, target)) {
		return &pageError{http.StatusBadRequest, "This post_logout_redirect_uri is not registered for the application, or it is not known which application asks."}
	}

	s.signOut(w, r)
	if target == "" {
		renderPage(w, http.StatusOK, nil, "message", messagePage{
			Title:   "Signed out",
			Message: "You are signed out of the demo provider.",
		})
		return nil
	}
	values := url.Values{}
	if state := form.Get("state"); state != "" {
		values.Set("state", state)
	}
	redirect(w, r, target, values)
	return nil
}

func endSessionForm(r *http.Request) (url.Values, error) {
	malformed := &pageError{http.StatusBadRequest, "This sign-out cannot be read."}
	if r.Method == http.MethodPost {
		form, err := bodyForm(r)
		if err != nil {
			return nil, malformed
		}
		return form, nil
	}
	form, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || repeated(form) != "" {
		return nil, malformed
	}
	return form, nil
}

// logoutClient returns the client that asks for a sign-out, by its ID token or
// its client_id, or nil when neither is given. It fails when they are wrong or
// disagree.
func (s *Server) logoutClient(form url.Values) (*Client, error) {
	id, hint := form.Get("client_id"), form.Get("id_token_hint")
	if hint != "" {
		audience, err := s.keys.audienceOf(s.issuer, hint)
		if err != nil || len(audience) == 0 {
			return nil, &pageError{http.StatusBadRequest, "This id_token_hint is not a token of this provider."}
		}
		if id == "" {
			id = audience[0]
		}
		if !slices.Contains(audience, id) {
			return nil, &pageError{http.StatusBadRequest, "The id_token_hint was made for another client_id."}
		}
	}
	client := s.clients[id]
	if id != "" && client == nil {
		return nil, &pageError{http.StatusBadRequest, "No application with this client_id is known here."}
	}
	return client, nil
}

// IssueLogoutToken returns a valid back-channel logout token for a client
// (OpenID Connect Back-Channel Logout 1.0 section 2.4), good for two minutes.
// subject or sid may be empty, not both. It fails, with [ErrLogoutToken], when
// both are or when there is no such client. Sending it is up to the caller;
// faults do not change it.
func (s *Server) IssueLogoutToken(clientID, subject, sid string) (string, error) {
	if s.clients[clientID] == nil {
		return "", fmt.Errorf("%w: no client %q", ErrLogoutToken, clientID)
	}
	if subject == "" && sid == "" {
		return "", fmt.Errorf("%w: it needs a subject or a sid", ErrLogoutToken)
	}
	now := s.now()
	claims := map[string]any{
		"iss":    s.issuer,
		"aud":    clientID,
		"iat":    now.Unix(),
		"exp":    now.Add(2 * time.Minute).Unix(),
		"jti":    rand.Text(),
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": struct{}{}},
	}
	if subject != "" {
		claims["sub"] = subject
	}
	if sid != "" {
		claims["sid"] = sid
	}
	return s.keys.sign("", "logout+jwt", claims)
}
