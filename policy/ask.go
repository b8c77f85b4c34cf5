package policy

import (
	"net/url"
	"strconv"
	"strings"
	"time"
)

// The parameters by which a sign-in page is asked for more than any sign-in. The
// first two are those of OpenID Connect Core 1.0, section 3.1.2.1; for the third
// there is none.
const (
	askACR    = "acr_values"
	askMaxAge = "max_age"
	askAMR    = "amr"
)

// maxAsked bounds each of these parameters in bytes.
const maxAsked = 512

// ParseAsk returns what q asks a sign-in for, nil if nothing. Whoever makes a
// link can ask for more, and never for less than the rules do afterwards.
func ParseAsk(q url.Values) *Ask {
	a := &Ask{ACRValues: askedWords(q, askACR), AMR: askedWords(q, askAMR)}
	if seconds, err := strconv.ParseUint(q.Get(askMaxAge), 10, 31); err == nil {
		a.MaxAge = time.Duration(seconds) * time.Second
	}
	if len(a.ACRValues) == 0 && len(a.AMR) == 0 && a.MaxAge == 0 {
		return nil
	}
	return a
}

func askedWords(q url.Values, name string) []string {
	words := strings.Fields(q.Get(name))
	if len(words) == 0 || len(q.Get(name)) > maxAsked {
		return nil
	}
	return words
}

// Query returns the parameters of a sign-in page that ask for a, none for nil.
func (a *Ask) Query() url.Values {
	q := url.Values{}
	if a == nil {
		return q
	}
	if len(a.ACRValues) > 0 {
		q.Set(askACR, strings.Join(a.ACRValues, " "))
	}
	if len(a.AMR) > 0 {
		q.Set(askAMR, strings.Join(a.AMR, " "))
	}
	if a.MaxAge > 0 {
		q.Set(askMaxAge, strconv.FormatInt(int64(a.MaxAge/time.Second), 10))
	}
	return q
}
