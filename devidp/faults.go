package devidp

import (
	"io"
	"maps"
	"net/http"
	"net/url"
)

// Faults are the ways in which a [Server] can lie or fail. The zero value is
// an honest, working provider. The functions run on the goroutines of the
// requests, possibly several at once.
type Faults struct {
	// ClaimsEdit has the last word on the claims of each ID token.
	ClaimsEdit func(claims map[string]any)

	// Alg is how ID tokens are signed: "" or "RS256", "ES256", "none"
	// (unsigned), or "HS256-public" (HMAC keyed with the PEM of the public RSA
	// key, which is no secret: the algorithm confusion of CVE-2015-9235).
	// Anything else makes /token answer 500.
	Alg string

	// IDToken is sent instead of the ID token, when set.
	IDToken string

	// OmitIDToken leaves the ID token out.
	OmitIDToken bool

	// UserinfoEdit has the last word on the claims of each userinfo answer.
	UserinfoEdit func(claims map[string]any)

	// CallbackIss is the iss parameter of authorization responses (RFC 9207):
	// "" is the issuer, "-" leaves it out, anything else is sent as it is.
	CallbackIss string

	// CallbackEdit has the last word on the parameters of authorization
	// responses.
	CallbackEdit func(url.Values)

	// Down closes each connection without an answer.
	Down bool

	// Status maps paths, for example "/token", to the status they answer
	// instead of doing anything.
	Status map[string]int

	// Garbage answers everything with 200 and a body that is not JSON.
	Garbage bool

	// Delay is called before each request is answered, also with Down, Status
	// or Garbage. Tests block in it.
	Delay func(r *http.Request)

	// EmailInUserinfoOnly leaves the e-mail address out of ID tokens.
	EmailInUserinfoOnly bool

	// LongToken pads ID tokens with a claim of that many bytes.
	LongToken int
}

// SetFaults replaces the faults, for requests that come in from now on. A
// request sees one set of faults from its beginning to its end.
func (s *Server) SetFaults(f Faults) {
	f.Status = maps.Clone(f.Status)
	s.faults.Store(&f)
}

// intercept applies the faults that replace a whole answer, and reports
// whether there was one.
func (f *Faults) intercept(w http.ResponseWriter, r *http.Request) bool {
	if f.Delay != nil {
		f.Delay(r)
	}
	status := f.Status[r.URL.Path]
	switch {
	case f.Down:
		hangUp(w)
	case status != 0:
		http.Error(w, http.StatusText(status), status)
	case f.Garbage:
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, "<p>this is not JSON")
	default:
		return false
	}
	return true
}

// hangUp closes the connection without an answer.
func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2 cannot be hijacked; this resets the stream
	}
	conn.Close()
}
