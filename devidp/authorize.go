package devidp

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An authRequest is a checked authorization request.
type authRequest struct {
	client      *Client
	redirectURI string
	formPost    bool // response_mode=form_post, else query
	state       string

	scopes    []string // those asked for that exist
	nonce     string
	challenge string // of PKCE, S256
	prompt    []string
	maxAge    time.Duration // negative when there is none
	loginHint string

	params url.Values // all of it, for the form of the page
}

// A responseError is a refusal that is sent to the client's redirect URI (RFC
// 6749 section 4.1.2.1).
type responseError struct {
	code, description string
}

func (e *responseError) Error() string { return e.code + ": " + e.description }

// serveAuthorize begins a sign-in: it shows the page, or answers straight away
// when nobody needs to be asked.
func (s *Server) serveAuthorize(w http.ResponseWriter, r *http.Request, f *Faults) error {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return &pageError{http.StatusBadRequest, "The address of this sign-in is malformed."}
	}
	req, err := s.parseTarget(q)
	if err != nil {
		return err
	}
	if err := req.parse(q); err != nil {
		return s.respond(w, r, f, req, err.values())
	}

	current := s.currentSession(r)
	if user := s.withoutAsking(req, current); user != nil {
		return s.finish(w, r, f, req, s.signIn(w, r, user, req))
	}
	if slices.Contains(req.prompt, "none") {
		refusal := &responseError{"login_required", "nobody is signed in, and prompt=none forbids to ask"}
		return s.respond(w, r, f, req, refusal.values())
	}
	s.renderSignIn(w, req, current)
	return nil
}

// serveSignIn takes the choice made on the page. The request comes back in a
// hidden field and is checked again from the beginning, so the field needs no
// seal: changing it is the same as asking for something else.
func (s *Server) serveSignIn(w http.ResponseWriter, r *http.Request, f *Faults) error {
	// Without this, a page elsewhere could sign the browser in as a user of its
	// choice (login CSRF). "same-site" is refused too: on loopback that is any
	// other port.
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return &pageError{http.StatusForbidden, "This sign-in was sent by another site."}
	}
	form, err := bodyForm(r)
	if err != nil {
		return &pageError{http.StatusBadRequest, "This form cannot be read."}
	}
	q, err := url.ParseQuery(form.Get("request"))
	if err != nil {
		return &pageError{http.StatusBadRequest, "This form cannot be read."}
	}
	req, err := s.parseTarget(q)
	if err != nil {
		return err
	}
	if err := req.parse(q); err != nil {
		return s.respond(w, r, f, req, err.values())
	}

	if form.Get("action") == "cancel" {
		refusal := &responseError{"access_denied", "the user cancelled"}
		return s.respond(w, r, f, req, refusal.values())
	}
	user := s.userByLogin(form.Get("user"))
	if user == nil {
		return &pageError{http.StatusBadRequest, "There is no such user."}
	}
	return s.finish(w, r, f, req, s.authenticated(w, r, user))
}

// parseTarget reads who asks and where the answer goes. Until both are known
// to belong together nothing is ever redirected: its errors are pages (RFC 6749
// section 4.1.2.1). An authRequest without an error is complete enough for
// [Server.respond].
func (s *Server) parseTarget(q url.Values) (*authRequest, error) {
	if len(q["client_id"]) != 1 || len(q["redirect_uri"]) != 1 {
		return nil, &pageError{http.StatusBadRequest, "A sign-in needs exactly one client_id and one redirect_uri."}
	}
	client := s.clients[q.Get("client_id")]
	if client == nil {
		return nil, &pageError{http.StatusBadRequest, "No application with this client_id is known here."}
	}
	redirectURI := q.Get("redirect_uri")
	if !slices.Contains(client.RedirectURIs, redirectURI) {
		return nil, &pageError{http.StatusBadRequest, "This redirect_uri is not registered for the application. It has to be the same to the letter."}
	}
	req := &authRequest{client: client, redirectURI: redirectURI, maxAge: -1, params: q}
	if len(q["state"]) == 1 {
		req.state = q.Get("state")
	}
	return req, nil
}

// parse reads the rest of an authorization request, whose errors go to the
// client.
func (req *authRequest) parse(q url.Values) *responseError {
	if name := repeated(q); name != "" {
		return &responseError{"invalid_request", "a parameter is there twice: " + name}
	}
	mode := q.Get("response_mode")
	req.formPost = mode == "form_post"
	req.challenge = q.Get("code_challenge")
	req.prompt = strings.Fields(q.Get("prompt"))
	switch {
	case q.Has("request"):
		return &responseError{"request_not_supported", "request objects are not supported"}
	case q.Has("request_uri"):
		return &responseError{"request_uri_not_supported", "request objects are not supported"}
	case mode != "" && mode != "query" && mode != "form_post":
		return &responseError{"invalid_request", "response_mode must be query or form_post"}
	case q.Get("response_type") != "code":
		return &responseError{"unsupported_response_type", "response_type must be code"}
	case q.Get("code_challenge_method") != "S256" || !isChallenge(req.challenge):
		return &responseError{"invalid_request", "PKCE is required: code_challenge with code_challenge_method=S256"}
	case !validPrompt(req.prompt):
		return &responseError{"invalid_request", "prompt must be none alone, or among login, select_account, consent"}
	}
	if q.Has("max_age") {
		seconds, err := strconv.ParseUint(q.Get("max_age"), 10, 31)
		if err != nil {
			return &responseError{"invalid_request", "max_age must be a number of seconds"}
		}
		req.maxAge = time.Duration(seconds) * time.Second
	}
	req.scopes = grantable(q.Get("scope"))
	req.nonce = q.Get("nonce")
	req.loginHint = q.Get("login_hint")
	return nil
}

// isChallenge reports whether s can be a SHA-256 in base64url (RFC 7636
// section 4.2).
func isChallenge(s string) bool {
	sum, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(sum) == 32
}

// validPrompt applies OpenID Connect Core section 3.1.2.1: none excludes all
// others.
func validPrompt(prompt []string) bool {
	for _, p := range prompt {
		switch p {
		case "login", "select_account", "consent":
		case "none":
			if len(prompt) > 1 {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// grantable returns the scopes in scope that exist here, each once. Others are
// ignored (OpenID Connect Core section 3.1.2.1).
func grantable(scope string) []string {
	var scopes []string
	for _, name := range strings.Fields(scope) {
		if slices.Contains(supportedScopes(), name) && !slices.Contains(scopes, name) {
			scopes = append(scopes, name)
		}
	}
	return scopes
}

// withoutAsking returns the user that req signs in without showing the page,
// or nil. A prompt other than none wins over a login_hint, and prompt=none
// never signs anybody in who was not signed in before.
func (s *Server) withoutAsking(req *authRequest, current *session) *User {
	hinted := s.userByHint(req.loginHint)
	fresh := current != nil && !s.tooOld(req, current)
	switch {
	case slices.Contains(req.prompt, "none"):
		if fresh && (req.loginHint == "" || hinted == current.user) {
			return current.user
		}
		return nil
	case len(req.prompt) > 0:
		return nil
	case hinted != nil:
		return hinted
	case req.loginHint != "":
		return nil // somebody is meant who is not here
	case fresh && (s.rememberUser || len(s.users) == 1):
		return current.user
	}
	return nil
}

// tooOld reports whether the sign-in of current is past the request's max_age.
// With max_age=0 it always is.
func (s *Server) tooOld(req *authRequest, current *session) bool {
	return req.maxAge >= 0 && s.now().Sub(current.authTime) >= req.maxAge
}

// finish sends a code for session to the client.
func (s *Server) finish(w http.ResponseWriter, r *http.Request, f *Faults, req *authRequest, current session) error {
	value := rand.Text()
	s.mu.Lock()
	now := s.now()
	s.codes.put(now, value, &code{
		grant: &grant{
			clientID: req.client.ID,
			user:     current.user,
			scopes:   req.scopes,
			nonce:    req.nonce,
			sid:      current.sid,
			authTime: current.authTime,
		},
		redirectURI: req.redirectURI,
		challenge:   req.challenge,
		issued:      now,
	}, now.Add(codeMemory))
	s.mu.Unlock()
	return s.respond(w, r, f, req, url.Values{"code": {value}})
}

// respond sends the browser back to the client with values.
func (s *Server) respond(w http.ResponseWriter, r *http.Request, f *Faults, req *authRequest, values url.Values) error {
	if req.state != "" {
		values.Set("state", req.state)
	}
	switch f.CallbackIss {
	case "":
		values.Set("iss", s.issuer)
	case "-":
	default:
		values.Set("iss", f.CallbackIss)
	}
	if f.CallbackEdit != nil {
		f.CallbackEdit(values)
	}
	if req.formPost {
		renderFormPost(w, req.redirectURI, values)
		return nil
	}
	redirect(w, r, req.redirectURI, values)
	return nil
}

// redirect sends the browser to target with values added to its query. After a
// POST the status says that the next request is a GET.
func redirect(w http.ResponseWriter, r *http.Request, target string, values url.Values) {
	separator := "?"
	if strings.Contains(target, "?") {
		separator = "&"
	}
	if len(values) > 0 {
		target += separator + values.Encode()
	}
	status := http.StatusFound
	if r.Method == http.MethodPost {
		status = http.StatusSeeOther
	}
	http.Redirect(w, r, target, status)
}

func (e *responseError) values() url.Values {
	return url.Values{"error": {e.code}, "error_description": {e.description}}
}
