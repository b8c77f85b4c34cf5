package web

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Failures kept in a session store: a burst of so many, and one each interval
// after that.
const (
	keptFailures    = 200
	failureInterval = 10 * time.Second
)

// keptOfFailures decides which failures become rows of the session store. Anybody
// can begin sign-ins and let them fail, as often as they like, and a row stays for
// months.
type keptOfFailures struct {
	mu      sync.Mutex
	limit   *rate.Limiter
	leftOut int // since the last one that was kept
}

func newKeptOfFailures() *keptOfFailures {
	return &keptOfFailures{limit: rate.NewLimiter(rate.Every(failureInterval), keptFailures)}
}

// next says whether this one is kept, and how many before it were not.
func (k *keptOfFailures) next(now time.Time) (leftOut int, kept bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.limit.AllowN(now, 1) {
		k.leftOut++
		return 0, false
	}
	leftOut, k.leftOut = k.leftOut, 0
	return leftOut, true
}

// auditFailure is [Server.audit] for what did not succeed. The log has each, the
// store some, with the number of those that were left out before it. begun says
// whether r shows that it began here: nothing else is kept.
func (s *Server) auditFailure(r *http.Request, begun bool, event string, args ...any) {
	s.logAudit(r, event, args...)
	if !begun {
		return
	}
	leftOut, kept := s.failures.next(s.Now())
	if !kept {
		return
	}
	if leftOut > 0 {
		args = append(args, "left_out", strconv.Itoa(leftOut))
	}
	s.Sessions.Record(auditEvent(event, s.ClientIP(r), r.UserAgent(), args))
}
