package redisstore

import (
	"hash/fnv"
	"strconv"
	"strings"
)

// keys makes the names of keys. Those that Watch is told of, and only those,
// begin with the prefix and a brace; the clocks do not, so that a touch is not
// told.
type keys struct{ prefix string }

// sweepParts is how many sorted sets hold the ends of sessions, so that no slot
// of a Cluster has to bear them all.
const sweepParts = 16

func (k keys) tracked() string                 { return k.prefix + ":{" }
func (k keys) user(userID string) string       { return k.prefix + ":{" + userID + "}:user" }
func (k keys) session(r ref) string            { return k.prefix + ":{" + r.user + "}:session:" + r.id }
func (k keys) clocks(r ref) string             { return k.prefix + ":clocks:{" + r.user + "}:" + r.id }
func (k keys) sessions(userID string) string   { return k.prefix + ":sessions:{" + userID + "}" }
func (k keys) id(id string) string             { return k.prefix + ":id:" + id }
func (k keys) token(hash string) string        { return k.prefix + ":token:" + hash }
func (k keys) sid(provider, s string) string   { return k.prefix + ":sid:" + provider + ":" + s }
func (k keys) subject(prov, sub string) string { return k.prefix + ":subject:" + prov + ":" + sub }
func (k keys) email(address string) string     { return k.prefix + ":email:" + strings.ToLower(address) }
func (k keys) audit() string                   { return k.prefix + ":audit" }
func (k keys) wait(userID string) string       { return k.prefix + ":wait:{" + userID + "}" }
func (k keys) ends(part int) string            { return k.prefix + ":ends:" + strconv.Itoa(part) }

// endsOf returns the key of the part that a session belongs to.
func (k keys) endsOf(id string) string {
	h := fnv.New32a()
	h.Write([]byte(id))
	return k.ends(int(h.Sum32() % sweepParts))
}

// heartbeat returns the key of one beat, in the slot that tag names. Each beat
// has its own, so that nothing else that happens to a key is taken for it.
func (k keys) heartbeat(tag, process string, n int64) string {
	return k.prefix + ":{" + tag + "}:heartbeat:" + process + ":" + strconv.FormatInt(n, 10)
}

// A ref names a session and whose it is.
type ref struct{ user, id string }

// String returns r as it stands in other keys.
func (r ref) String() string { return r.user + "/" + r.id }

func parseRef(text string) (ref, bool) {
	user, id, ok := strings.Cut(text, "/")
	return ref{user, id}, ok
}

// split returns the person, the kind and the rest of a tracked key.
func (k keys) split(key string) (user, kind, rest string, ok bool) {
	key, ok = strings.CutPrefix(key, k.tracked())
	if !ok {
		return "", "", "", false
	}
	user, key, ok = strings.Cut(key, "}:")
	kind, rest, _ = strings.Cut(key, ":")
	return user, kind, rest, ok
}
