-- Queries for people, for sqlite3 after ATTACH 'sessions.db' AS neon_auth. A test runs them all.
-- SQLite has no NOW(): datetime('now') sorts with our times.

-- name: active sessions, as Neon's documentation shows them
SELECT s.id, s."userId", u.email, s."createdAt", s."expiresAt", s."ipAddress", s."userAgent"
FROM neon_auth.session s
JOIN neon_auth.user u ON s."userId" = u.id
WHERE s."expiresAt" > datetime('now')
ORDER BY s."createdAt" DESC;

-- name: users by creation, as Neon's documentation shows them
SELECT id, email, "emailVerified", "createdAt" FROM neon_auth.user ORDER BY "createdAt" DESC;

-- name: who is signed in, on each device
SELECT email, "providerId", "ipAddress", "userAgent", "createdAt", "lastSeenAt"
FROM neon_auth.active_session ORDER BY "lastSeenAt" DESC;

-- name: users with more than one live session
SELECT email, count(*) FROM neon_auth.active_session GROUP BY email HAVING count(*) > 1;

-- name: not seen for 30 days, and still valid
SELECT id, email FROM neon_auth.active_session WHERE "lastSeenAt" < datetime('now', '-30 days');

-- name: failed sign-ins by address in the last hour
SELECT "ipAddress", count(*) FROM neon_auth.audit_event
WHERE type = 'sign_in_failed' AND at > datetime('now', '-1 hour') GROUP BY 1 ORDER BY 2 DESC;

-- name: people who signed in, by day
SELECT date(at) AS day, count(DISTINCT "userId") FROM neon_auth.audit_event
WHERE type = 'sign_in' GROUP BY 1 ORDER BY 1;

-- name: the tables of Auth.js
SELECT u.email, s."sessionToken", s.expires, a.provider, a."providerAccountId"
FROM neon_auth.users u JOIN neon_auth.sessions s ON s."userId" = u.id JOIN neon_auth.accounts a ON a."userId" = u.id;

-- name: give a role
UPDATE neon_auth.user SET role = 'admin' WHERE lower(email) = lower('P1@example.com');

-- name: lock somebody out, now and until further notice
UPDATE neon_auth.user SET banned = true, "banReason" = 'left' WHERE lower(email) = lower('P1@example.com');

-- name: let them in again
UPDATE neon_auth.user SET banned = false, "banReason" = NULL, "banExpires" = NULL WHERE lower(email) = lower('P1@example.com');

-- name: void every earlier session of somebody, and keep the rows
UPDATE neon_auth.user SET "sessionEpoch" = "sessionEpoch" + 1 WHERE lower(email) = lower('P1@example.com');

-- name: sign somebody out everywhere
DELETE FROM neon_auth.session WHERE "userId" IN (SELECT id FROM neon_auth.user WHERE lower(email) = lower('P2@example.com'));

-- name: sign everybody out who came from one provider
DELETE FROM neon_auth.session WHERE "providerId" = 'corp';

-- name: sign everybody out
DELETE FROM neon_auth.session;
