-- The tables, for PostgreSQL 13 and later. Names of tables and columns are a contract.
-- They are made in the schema of session.schema, which is the search_path while this runs.

CREATE TABLE "user" (
  id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  name             text,
  email            text,
  "emailVerified"  boolean     NOT NULL DEFAULT false,
  "emailVerifiedAt" timestamptz,
  image            text,
  username         text,
  role             text        NOT NULL DEFAULT 'user',      -- application role, never a database role
  groups           jsonb       NOT NULL DEFAULT '[]',
  claims           jsonb       NOT NULL DEFAULT '{}',        -- mapped claims of the latest sign-in
  banned           boolean     NOT NULL DEFAULT false,
  "banReason"      text,
  "banExpires"     timestamptz,
  "twoFactorEnabled" boolean   NOT NULL DEFAULT false,
  "sessionEpoch"   integer     NOT NULL DEFAULT 0,           -- +1 = every earlier session of this user is void
  "lastSignInAt"   timestamptz,
  "createdAt"      timestamptz NOT NULL DEFAULT now(),
  "updatedAt"      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX user_email_idx ON "user" (lower(email)) WHERE email IS NOT NULL;  -- not unique: two providers may give one address
CREATE UNIQUE INDEX user_username_key ON "user" (lower(username)) WHERE username IS NOT NULL;

CREATE TABLE account (
  id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  "userId"         uuid        NOT NULL REFERENCES "user"(id) ON DELETE CASCADE,
  "providerId"     text        NOT NULL,                     -- config name: google, github, corp, credential
  issuer           text        NOT NULL,                     -- OIDC iss, https://github.com, or local:credential
  "accountId"      text        NOT NULL,                     -- sub / GitHub numeric id / user id
  type             text        NOT NULL DEFAULT 'oidc',      -- oidc | oauth | credential
  "accessToken"    text, "refreshToken" text, "idToken" text, -- sealed, 'v1.<kid>.<b64>'
  "accessTokenExpiresAt"  timestamptz,
  "refreshTokenExpiresAt" timestamptz,
  scope            text,
  password         text,                                     -- PHC string, only for credential
  "createdAt"      timestamptz NOT NULL DEFAULT now(),
  "updatedAt"      timestamptz NOT NULL DEFAULT now(),
  UNIQUE (issuer, "accountId")
);
CREATE INDEX account_user_idx ON account ("userId");

CREATE TABLE session (
  id               uuid PRIMARY KEY DEFAULT gen_random_uuid(), -- public id, JWT sid
  token            text        NOT NULL UNIQUE,              -- SHA-256 of the opaque token, 43 chars base64url
  "userId"         uuid        NOT NULL REFERENCES "user"(id) ON DELETE CASCADE,
  "expiresAt"      timestamptz NOT NULL,                     -- sliding, never past absoluteExpiresAt
  "absoluteExpiresAt" timestamptz NOT NULL,
  "lastSeenAt"     timestamptz NOT NULL DEFAULT now(),       -- written at most once per touch interval
  "ipAddress"      text,
  "userAgent"      text,
  "providerId"     text,
  issuer           text        NOT NULL,                     -- with subject: the account that signed in
  subject          text        NOT NULL,
  "idpSid"         text,                                     -- upstream sid, for back-channel logout
  "authTime"       timestamptz NOT NULL DEFAULT now(),
  amr              jsonb       NOT NULL DEFAULT '[]',
  acr              text,
  epoch            integer     NOT NULL DEFAULT 0,
  "impersonatedBy" uuid REFERENCES "user"(id) ON DELETE CASCADE,
  data             jsonb       NOT NULL DEFAULT '{}',        -- allow-listed custom fields
  "createdAt"      timestamptz NOT NULL DEFAULT now(),
  "updatedAt"      timestamptz NOT NULL DEFAULT now(),
  FOREIGN KEY (issuer, subject) REFERENCES account (issuer, "accountId") ON DELETE CASCADE
) WITH (fillfactor = 80);
CREATE INDEX session_user_idx    ON session ("userId");
CREATE INDEX session_expires_idx ON session (LEAST("expiresAt", "absoluteExpiresAt")); -- for the sweeper
CREATE INDEX session_subject_idx ON session (subject, issuer);
CREATE INDEX session_idpsid_idx  ON session ("providerId", "idpSid") WHERE "idpSid" IS NOT NULL;

-- provider tokens belong to one sign-in, so one device cannot overwrite another's
CREATE TABLE session_credential (
  "sessionId"      uuid PRIMARY KEY REFERENCES session(id) ON DELETE CASCADE,
  "accessToken"    text, "refreshToken" text, "idToken" text, -- sealed
  "expiresAt"      timestamptz,
  scope            text,
  version          integer     NOT NULL DEFAULT 0,           -- compare-and-swap for refresh
  "refreshLockUntil" timestamptz,
  "refreshAt"      timestamptz,                              -- when to refresh; NULL = never
  "readAt"         timestamptz,                              -- when the provider last said who this is
  "idTokenExpiresAt" timestamptz
);

CREATE TABLE verification (
  id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  identifier       text        NOT NULL,                     -- e-mail, user id or session id
  purpose          text        NOT NULL,                     -- verify-email | reset-password | magic-link | invite | mfa
  value            text        NOT NULL UNIQUE,              -- SHA-256 of the token
  attempts         integer     NOT NULL DEFAULT 0,
  "expiresAt"      timestamptz NOT NULL,
  "createdAt"      timestamptz NOT NULL DEFAULT now(),
  "updatedAt"      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX verification_identifier_idx ON verification (identifier, purpose);
CREATE INDEX verification_expires_idx    ON verification ("expiresAt");

CREATE TABLE two_factor (
  id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  "userId"         uuid NOT NULL REFERENCES "user"(id) ON DELETE CASCADE,
  type             text NOT NULL,                            -- totp | webauthn | backup
  secret           text NOT NULL,                            -- sealed secret, credential public key, or hashed code
  "credentialId"   text,
  counter          bigint NOT NULL DEFAULT 0,                -- last TOTP step / WebAuthn counter: replay guard
  name             text,
  "verifiedAt"     timestamptz,
  "createdAt"      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX two_factor_user_idx ON two_factor ("userId");
CREATE UNIQUE INDEX two_factor_credential_key ON two_factor ("credentialId") WHERE "credentialId" IS NOT NULL;

CREATE TABLE jwks (
  id               text PRIMARY KEY,                         -- kid
  alg              text NOT NULL,
  "publicKey"      text NOT NULL,
  "privateKey"     text NOT NULL,                            -- sealed
  "signFrom"       timestamptz NOT NULL,                     -- published before this moment
  "signUntil"      timestamptz,
  "publishUntil"   timestamptz,
  "createdAt"      timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE audit_event (
  id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at               timestamptz NOT NULL DEFAULT now(),
  type             text NOT NULL,                            -- sign_in, sign_in_failed, sign_out, session_revoked, ...
  "userId"         uuid, "sessionId" uuid, "actorId" uuid,
  "ipAddress"      text, "userAgent" text,
  detail           jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_event_user_idx ON audit_event ("userId", at DESC);
CREATE INDEX audit_event_at_idx   ON audit_event (at);

-- read-only views with Auth.js names
CREATE VIEW users AS SELECT id, name, email, "emailVerifiedAt" AS "emailVerified", image FROM "user";
CREATE VIEW accounts AS SELECT id, "userId", type, "providerId" AS provider, "accountId" AS "providerAccountId",
  extract(epoch FROM "accessTokenExpiresAt")::bigint AS expires_at, scope FROM account;
CREATE VIEW sessions AS SELECT id, token AS "sessionToken", "userId", "expiresAt" AS expires FROM session;
CREATE VIEW verification_tokens AS SELECT identifier, value AS token, "expiresAt" AS expires FROM verification;
CREATE VIEW active_session AS
  SELECT s.*, u.email, u.name FROM session s JOIN "user" u ON u.id = s."userId"
  WHERE s."expiresAt" > now() AND s."absoluteExpiresAt" > now() AND s.epoch = u."sessionEpoch"
    AND NOT (u.banned AND (u."banExpires" IS NULL OR u."banExpires" > now()));
