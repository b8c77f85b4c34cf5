package redisstore

// The scripts read times and versions from their arguments only, and touch no
// key that they are not told. A number from ARGV is a text; "" is no number.

// createScript writes a session and describes its person, and deletes the
// sessions that it replaces.
//
// KEYS: user, session, clocks, sessions; and session, clocks, sessions for each
// one that is replaced.
// ARGV: id, now, the lives of session and clocks in ms (0: for good), three
// lists of fields with their length in front (person, session, clocks), the ids
// that are replaced.
func createScript() script {
	return newScript(`
if redis.call('EXISTS', KEYS[2]) == 1 then return false end
local at = 5
local function hset(key)
  local n = tonumber(ARGV[at])
  redis.call('HSET', key, unpack(ARGV, at + 1, at + n))
  at = at + n + 1
end
hset(KEYS[1])
redis.call('HSETNX', KEYS[1], 'role', 'user')
redis.call('HSETNX', KEYS[1], 'sessionEpoch', '0')
redis.call('HSETNX', KEYS[1], 'createdAt', ARGV[2])
redis.call('HSET', KEYS[1], 'lastSignInAt', ARGV[2])
local epoch, role = unpack(redis.call('HMGET', KEYS[1], 'sessionEpoch', 'role'))
hset(KEYS[2])
redis.call('HSET', KEYS[2], 'epoch', epoch)
hset(KEYS[3])
redis.call('SADD', KEYS[4], ARGV[1])
for i = 2, 3 do
  if ARGV[i + 1] ~= '0' then redis.call('PEXPIRE', KEYS[i], ARGV[i + 1]) end
end
for i = 5, #KEYS, 3 do
  redis.call('DEL', KEYS[i], KEYS[i + 1])
  redis.call('SREM', KEYS[i + 2], ARGV[at])
  at = at + 1
end
return {epoch, role}`)
}

// findScript returns a session, its clocks and its person, or nothing unless all
// three are there.
//
// KEYS: session, clocks, user.
func findScript() script {
	return newScript(`
if redis.call('EXISTS', unpack(KEYS)) < 3 then return false end
return {redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]), redis.call('HGETALL', KEYS[3])}`)
}

// touchScript moves the clocks of a session that is there and not over, and
// returns them.
//
// KEYS: session, clocks.
// ARGV: now, seen before, slide if by, slide to, the life of the clocks after
// the session's end in ms.
func touchScript() script {
	return newScript(`
if redis.call('EXISTS', unpack(KEYS)) < 2 then return false end
local hard = tonumber(redis.call('HGET', KEYS[1], 'absoluteExpiresAt') or '')
local c = redis.call('HMGET', KEYS[2], 'lastSeenAt', 'expiresAt', 'updatedAt')
local now, before, by, to = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local seen, ends = tonumber(c[1] or '') or 0, tonumber(c[2] or '') or 0
if to and hard and hard < to then to = hard end
if now and now < ends and not (hard and hard <= now) then
  if by and to and ends <= by and to > ends then
    c = {ARGV[1], string.format('%.0f', to), ARGV[1]}
    redis.call('HSET', KEYS[2], 'lastSeenAt', c[1], 'expiresAt', c[2], 'updatedAt', c[3])
    redis.call('PEXPIRE', KEYS[2], string.format('%.0f', to - now + tonumber(ARGV[5])))
  elseif before and seen <= before then
    c[1] = ARGV[1]
    redis.call('HSET', KEYS[2], 'lastSeenAt', c[1])
  end
end
return {c[1] or '', c[2] or '', c[3] or ''}`)
}

// dataScript replaces the application's data of a session that is there.
//
// KEYS: session, clocks. ARGV: data, now.
func dataScript() script {
	return newScript(`
if redis.call('EXISTS', unpack(KEYS)) < 2 then return 0 end
redis.call('HSET', KEYS[1], 'data', ARGV[1])
redis.call('HSET', KEYS[2], 'updatedAt', ARGV[2])
return 1`)
}

// deleteScript ends a session and says whether it was there.
//
// KEYS: session, clocks, sessions. ARGV: id.
func deleteScript() script {
	return newScript(`
local there = redis.call('DEL', KEYS[1])
redis.call('DEL', KEYS[2])
redis.call('SREM', KEYS[3], ARGV[1])
return there`)
}

// sweepScript ends a session that is over, and returns -1; 0 if there is none,
// and otherwise when to look again.
//
// KEYS: session, clocks, sessions. ARGV: id, now.
func sweepScript() script {
	return newScript(`
local there = redis.call('EXISTS', KEYS[1])
if there == 1 then
  local ends = tonumber(redis.call('HGET', KEYS[2], 'expiresAt') or '') or 0
  local hard = tonumber(redis.call('HGET', KEYS[1], 'absoluteExpiresAt') or '')
  if hard and hard < ends then ends = hard end
  if ends > tonumber(ARGV[2]) then return ends end
end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('SREM', KEYS[3], ARGV[1])
return -there`)
}

// lockScript takes the right to refresh, if it is free.
//
// KEYS: session, clocks. ARGV: version, now, until.
func lockScript() script {
	return newScript(`
if redis.call('EXISTS', unpack(KEYS)) < 2 then return 0 end
local version, until_ = unpack(redis.call('HMGET', KEYS[1], 'version', 'refreshLockUntil'))
if version ~= ARGV[1] or (tonumber(until_ or '') or 0) > tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'refreshLockUntil', ARGV[3])
return 1`)
}

// unlockScript gives the right to refresh back.
//
// KEYS: session. ARGV: version.
func unlockScript() script {
	return newScript(`
if redis.call('HGET', KEYS[1], 'version') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'refreshLockUntil', '')
return 1`)
}

// saveScript replaces the credential of a session that has a version, and
// describes the person anew.
//
// KEYS: session, clocks, user. ARGV: version, now, two lists of fields with
// their length in front (credential, person; the second may be empty).
func saveScript() script {
	return newScript(`
if redis.call('EXISTS', unpack(KEYS)) < 3 or redis.call('HGET', KEYS[1], 'version') ~= ARGV[1] then return 0 end
local n = tonumber(ARGV[3])
redis.call('HSET', KEYS[1], 'refreshLockUntil', '', unpack(ARGV, 4, 3 + n))
redis.call('HSET', KEYS[2], 'updatedAt', ARGV[2])
if ARGV[4 + n] ~= '0' then redis.call('HSET', KEYS[3], unpack(ARGV, 5 + n)) end
return 1`)
}

// resealScript replaces texts that are still the same, and returns how many.
//
// KEYS: session. ARGV: field, old and new text of each.
func resealScript() script {
	return newScript(`
local replaced = 0
for i = 1, #ARGV, 3 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
    replaced = replaced + 1
  end
end
return replaced`)
}

// personScript changes a person who is there.
//
// KEYS: user. ARGV: fields and values.
func personScript() script {
	return newScript(`
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV))
return 1`)
}

// scripts are all of them, made once.
type scripts struct {
	create, find, touch, data, delete, sweep, lock, unlock, save, reseal, person script
}

func newScripts() scripts {
	return scripts{
		create: createScript(), find: findScript(), touch: touchScript(), data: dataScript(), delete: deleteScript(),
		sweep: sweepScript(), lock: lockScript(), unlock: unlockScript(), save: saveScript(), reseal: resealScript(),
		person: personScript(),
	}
}
