-- Every change that is not a touch leaves a row in session_change, whoever makes it: the
-- sqlite3 program, too. A process that watches reads what it has not seen, and takes
-- everything as changed where rows are missing.
--
-- sqlite3 does not enforce foreign keys unless it is told to, so the triggers also delete
-- what belongs to a deleted row.

CREATE TABLE session_change (
  id               INTEGER PRIMARY KEY AUTOINCREMENT,        -- never used twice, so that a gap shows
  kind             TEXT NOT NULL CHECK (kind IN ('s', 'u')), -- a session's id, or a user's
  ref              TEXT NOT NULL
);
CREATE TRIGGER session_change_prune AFTER INSERT ON session_change WHEN NEW.id % 256 = 0 BEGIN
  DELETE FROM session_change WHERE id <= NEW.id - 1024;
END;

-- The sweeper deletes only what is over, and says so with a row that no other transaction
-- ever sees.
CREATE TABLE session_sweep (id INTEGER PRIMARY KEY CHECK (id = 1));

CREATE TRIGGER session_delete AFTER DELETE ON session BEGIN
  DELETE FROM session_credential WHERE "sessionId" = OLD.id;
  INSERT INTO session_change (kind, ref) SELECT 's', OLD.id WHERE NOT EXISTS (SELECT 1 FROM session_sweep);
END;

-- A touch moves lastSeenAt and expiresAt forward, and updatedAt: nothing that a cache would
-- have to know at once.
CREATE TRIGGER session_update AFTER UPDATE ON session WHEN
  NEW."expiresAt" < OLD."expiresAt" OR NEW."lastSeenAt" < OLD."lastSeenAt"
  OR (NEW.id, NEW.token, NEW."userId", NEW."absoluteExpiresAt", NEW."ipAddress", NEW."userAgent", NEW."providerId", NEW.issuer, NEW.subject,
      NEW."idpSid", NEW."authTime", NEW.amr, NEW.acr, NEW.epoch, NEW."impersonatedBy", NEW.data, NEW."createdAt")
     IS NOT
     (OLD.id, OLD.token, OLD."userId", OLD."absoluteExpiresAt", OLD."ipAddress", OLD."userAgent", OLD."providerId", OLD.issuer, OLD.subject,
      OLD."idpSid", OLD."authTime", OLD.amr, OLD.acr, OLD.epoch, OLD."impersonatedBy", OLD.data, OLD."createdAt")
BEGIN
  INSERT INTO session_change (kind, ref) VALUES ('s', OLD.id);
END;

-- Not told: a lock for refreshing, and a token that was sealed with another key.
CREATE TRIGGER session_credential_update AFTER UPDATE ON session_credential WHEN
  (NEW."sessionId", NEW.version, NEW."expiresAt", NEW."idTokenExpiresAt", NEW."refreshAt", NEW."readAt",
   NEW."accessToken" IS NULL, NEW."refreshToken" IS NULL, NEW."idToken" IS NULL)
  IS NOT
  (OLD."sessionId", OLD.version, OLD."expiresAt", OLD."idTokenExpiresAt", OLD."refreshAt", OLD."readAt",
   OLD."accessToken" IS NULL, OLD."refreshToken" IS NULL, OLD."idToken" IS NULL)
BEGIN
  INSERT INTO session_change (kind, ref) VALUES ('s', OLD."sessionId");
END;

CREATE TRIGGER account_delete AFTER DELETE ON account BEGIN
  DELETE FROM session WHERE subject = OLD."accountId" AND issuer = OLD.issuer;
END;

CREATE TRIGGER user_delete AFTER DELETE ON "user" BEGIN
  DELETE FROM session WHERE "userId" = OLD.id;
  DELETE FROM account WHERE "userId" = OLD.id;
  INSERT INTO session_change (kind, ref) VALUES ('u', OLD.id);
END;

CREATE TRIGGER user_update AFTER UPDATE ON "user" WHEN
  (NEW.id, NEW.name, NEW.email, NEW."emailVerified", NEW.image, NEW.username, NEW.role, NEW.groups, NEW.claims,
   NEW.banned, NEW."banExpires", NEW."sessionEpoch")
  IS NOT
  (OLD.id, OLD.name, OLD.email, OLD."emailVerified", OLD.image, OLD.username, OLD.role, OLD.groups, OLD.claims,
   OLD.banned, OLD."banExpires", OLD."sessionEpoch")
BEGIN
  INSERT INTO session_change (kind, ref) VALUES ('u', OLD.id);
END;

-- REPLACE deletes the rows that stand in its way, and fires no trigger for that (unless
-- recursive_triggers is on); but it inserts.
CREATE TRIGGER session_replace BEFORE INSERT ON session BEGIN
  INSERT INTO session_change (kind, ref) SELECT 's', id FROM session WHERE id = NEW.id OR token = NEW.token;
END;
CREATE TRIGGER session_credential_replace BEFORE INSERT ON session_credential BEGIN
  INSERT INTO session_change (kind, ref) SELECT 's', "sessionId" FROM session_credential WHERE "sessionId" = NEW."sessionId";
END;
-- AFTER: a person who signs in again is inserted, too, but updated instead.
CREATE TRIGGER user_replace AFTER INSERT ON "user" BEGIN
  INSERT INTO session_change (kind, ref) VALUES ('u', NEW.id);
END;
