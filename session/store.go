package session

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"time"
)

// ErrUnavailable is wrapped by the errors of a [Store] that does not answer. It
// says nothing about the session: nobody is signed out by it. It is answered with
// 503 and Retry-After.
var ErrUnavailable error = unavailableError{}

type unavailableError struct{}

func (unavailableError) Error() string { return "session: the store does not answer" }

// RetryAfter is when to try again.
func (unavailableError) RetryAfter() time.Duration { return 2 * time.Second }

// A Store keeps the sessions of the database strategy, and is shared by all
// replicas. All methods fail with an error that wraps [ErrUnavailable] where the
// store cannot be asked, and end with their context. Times have at least the
// precision of milliseconds and come back in UTC.
//
// A store knows no secrets: tokens of browsers come hashed, those of providers
// sealed. Nothing it returns is shared with it, so that the caller may change it.
type Store interface {
	// Create writes the session of row with its user, account and credential,
	// and deletes those with the ids in replaces, all or nothing. A user who is
	// there already keeps what administrators decide (role, ban, epoch) and gets
	// what the provider says now; row.Epoch and row.User.Role are set to what
	// holds for the user.
	Create(ctx context.Context, row *Row, replaces []string) error
	// Find returns the session whose token has the hash, and FindID the one with
	// the id, whatever its clocks say. They fail with [ErrNone] if there is none.
	Find(ctx context.Context, token Hash) (*Row, error)
	FindID(ctx context.Context, id string) (*Row, error)
	// Touch notes activity and lets the session slide, in one statement that
	// changes a row only and never makes one. It returns the clocks as they are
	// afterwards, whether it changed them or not, or [ErrNone].
	Touch(ctx context.Context, id string, t Touch) (Clocks, error)
	// SetData replaces the application's data, which [Manager.SetData] has found
	// to be what each store can hold, or fails with [ErrNone].
	SetData(ctx context.Context, id string, data json.RawMessage, now time.Time) error
	// List returns the sessions that which selects and whose clocks have not run
	// out at now, the one seen last first; at most limit, 0 for all.
	List(ctx context.Context, which Selection, now time.Time, limit int) ([]*Row, error)
	// Delete ends the sessions that which selects and returns their ids. Where it
	// fails it returns those that it has ended before.
	Delete(ctx context.Context, which Selection) ([]string, error)

	// LockRefresh takes the right to refresh the credential of a session until
	// the time given, if it still has that version and nobody else has the right.
	LockRefresh(ctx context.Context, id string, version int, now, until time.Time) (bool, error)
	// SaveRefresh replaces the credential if it still has that version, with the
	// next version, ends the right to refresh, and updates the person unless user
	// is nil. It says whether it did.
	SaveRefresh(ctx context.Context, id string, version int, c *Credential, user *User, now time.Time) (bool, error)
	// UnlockRefresh gives the right back after a failure.
	UnlockRefresh(ctx context.Context, id string, version int) error
	// Reseal replaces the sealed texts for which reseal returns another one, in
	// batches, and returns how many. A text that changed meanwhile stays.
	Reseal(ctx context.Context, reseal func(string) (string, error)) (int, error)

	// Users returns the people with this id or, where that is "", with this
	// address in any case.
	Users(ctx context.Context, id, email string) ([]Account, error)
	// Ban refuses a person from now on, until the time given (zero: for good),
	// and Unban ends that. They fail with [ErrNone] for somebody unknown.
	Ban(ctx context.Context, userID, reason string, until time.Time) error
	Unban(ctx context.Context, userID string) error

	// Record writes audit events.
	Record(ctx context.Context, events []Event) error
	// Sweep deletes at most limit sessions that were over at now, and as many
	// audit events from before keepAudit (zero: none), and returns how many it
	// deleted. It holds no lock that a check waits for.
	Sweep(ctx context.Context, now, keepAudit time.Time, limit int) (int, error)

	// Watch calls on for every change that is not a touch, whoever made it and by
	// whatever means, until ctx ends or the channel breaks, and says why. The
	// first call says that everything may have changed; between changes there
	// are calls that only move AsOf on, at least every 500 ms. Calls do not
	// overlap.
	Watch(ctx context.Context, on func(Change)) error
	// Ping returns nil if the store answers.
	Ping(ctx context.Context) error
	// Close gives back the connections.
	Close() error
}

// A Hash is the SHA-256 of the opaque token in a browser's cookie.
type Hash [sha256.Size]byte

// String returns h as it stands in a database: base64url, 43 characters.
func (h Hash) String() string { return base64.RawURLEncoding.EncodeToString(h[:]) }

// A Row is a session as a store holds it.
type Row struct {
	// Session has no tokens of the provider: those are in Credential.
	*Session
	Token      Hash
	Credential Credential
	// Epoch is the person's when the session began, and UserEpoch what it is now;
	// a session of an earlier epoch is void.
	Epoch, UserEpoch int
	// Banned says that the person is refused, until BanExpires unless that is
	// zero.
	Banned     bool
	BanExpires time.Time
}

// Clone returns a copy of r that shares nothing with it, for stores that keep
// rows in memory.
func (r *Row) Clone() *Row {
	c := *r
	c.Session = r.Session.clone()
	c.User.Groups, c.AMR, c.Data = slices.Clone(r.User.Groups), slices.Clone(r.AMR), slices.Clone(r.Data)
	c.User.Claims, _ = cloneClaim(r.User.Claims).(map[string]any)
	return &c
}

// cloneClaim returns a copy of a value of [User.Claims], or of all of them.
func cloneClaim(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if v == nil {
			return v
		}
		c := make(map[string]any, len(v))
		for name, value := range v {
			c[name] = cloneClaim(value)
		}
		return c
	case []any:
		c := make([]any, len(v))
		for i, value := range v {
			c[i] = cloneClaim(value)
		}
		return c
	case []string:
		return slices.Clone(v)
	}
	return v
}

// A Credential is what the provider gave for one session.
type Credential struct {
	// Access, Refresh and ID are sealed tokens, "" where there is none.
	Access, Refresh, ID      string
	AccessExpires, IDExpires time.Time
	RefreshAt, ReadAt        time.Time // when to refresh; when the person was read last
	Version                  int       // one more with each refresh
	RefreshLockUntil         time.Time
}

// Clocks are the times of a session that change while it is used.
type Clocks struct{ LastSeenAt, ExpiresAt, UpdatedAt time.Time }

// A Touch says how the clocks of a session move: LastSeenAt becomes Now if it is
// SeenBefore or earlier, or if the session slides; and the session slides to
// SlideTo, or to its hard end if that is earlier, if it expires at or before
// SlideIfBy and can still grow. A session that is over at Now stays as it is.
type Touch struct {
	Now, SeenBefore    time.Time
	SlideIfBy, SlideTo time.Time
}

// A Selection names sessions by all of its fields that are set; the zero value
// names none.
type Selection struct {
	ID     string
	UserID string
	// ExceptID is left out of what the others name; alone it names none.
	ExceptID string
	// Provider and ProviderSID are a session at a provider, Provider and Subject
	// a person there.
	Provider, ProviderSID, Subject string
	// CreatedBefore leaves out of what the others name what began then or later;
	// alone it names none. Stores count in milliseconds.
	CreatedBefore time.Time
	// All names all sessions.
	All bool
}

// A Change says what may be different in a store.
type Change struct {
	// All says that anything may be.
	All bool
	// Sessions and Users are ids.
	Sessions, Users []string
	// AsOf is a time on this process' clock: whatever was committed before it has
	// been told.
	AsOf time.Time
}

// An Account is a person as administrators see them.
type Account struct {
	User                    User
	Banned                  bool
	BanReason               string
	BanExpires              time.Time
	CreatedAt, LastSignInAt time.Time
}

// An Event is something that happened to a person's sessions.
type Event struct {
	At   time.Time
	Type string // sign_in, sign_in_failed, sign_out, session_revoked, …
	// UserID and SessionID are whose, ActorID is who did it; "" where there is
	// none.
	UserID, SessionID, ActorID string
	IP, UserAgent              string
	Detail                     map[string]string
}
