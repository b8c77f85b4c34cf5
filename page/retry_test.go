package page

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// passing is an error that says when to try again.
type passing struct{ error }

func (passing) RetryAfter() time.Duration { return 2 * time.Second }

func TestAnErrorThatWillPassIsA503WithRetryAfter(t *testing.T) {
	e := AsError(fmt.Errorf("wrapped: %w", passing{fmt.Errorf("the store is down")}))
	if e.Status != http.StatusServiceUnavailable || e.RetryAfter != 2*time.Second {
		t.Errorf("status %d, retry after %v, want 503 and 2s", e.Status, e.RetryAfter)
	}
}
