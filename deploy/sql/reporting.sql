-- A role for reports: it sees who is signed in and what happened, and no token, no hash of
-- one, and no key. Run it as the owner of the tables, with the schema of session.schema:
--
--   psql "$DATABASE_URL" -v schema=authproxy -v role=reporting -f reporting.sql
--
-- The views sessions and verification_tokens have hashes in them, so they are left out. To
-- let the role revoke as well, add: GRANT DELETE ON :"schema".session TO :"role";

GRANT USAGE ON SCHEMA :"schema" TO :"role";
GRANT SELECT ON :"schema"."user", :"schema".audit_event, :"schema".users, :"schema".accounts TO :"role";
GRANT SELECT (id, "userId", "expiresAt", "absoluteExpiresAt", "lastSeenAt", "ipAddress", "userAgent", "providerId", issuer, subject,
  "authTime", amr, acr, epoch, "createdAt", "updatedAt") ON :"schema".session TO :"role";
GRANT SELECT (id, "userId", "expiresAt", "absoluteExpiresAt", "lastSeenAt", "ipAddress", "userAgent", "providerId", issuer, subject,
  "authTime", amr, acr, epoch, "createdAt", "updatedAt", email, name) ON :"schema".active_session TO :"role";
GRANT SELECT (id, "userId", "providerId", issuer, "accountId", type, scope, "createdAt", "updatedAt") ON :"schema".account TO :"role";
