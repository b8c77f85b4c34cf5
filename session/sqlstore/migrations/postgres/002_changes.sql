-- Every change that is not a touch is told with NOTIFY, whoever makes it. The triggers are
-- on statements, so that a DELETE of a million rows sends one message. The channel's name
-- has the schema's in it, hashed, because names of channels belong to the whole database.
--
-- The functions run as whoever made the change, need no rights of their own, and name
-- nothing outside pg_catalog and the transition tables: no search_path can mislead them.

CREATE FUNCTION tell_changes(kind text, in_schema text, ids uuid[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  message text := '*';
BEGIN
  IF cardinality(ids) = 0 THEN
    RETURN;
  END IF;
  IF cardinality(ids) <= 100 THEN -- 100 ids are 3,700 bytes; NOTIFY takes 7,999
    message := kind || array_to_string(ids, ',');
  END IF;
  PERFORM pg_notify('authproxy_' || left(encode(sha256(convert_to(in_schema, 'UTF8')), 'hex'), 32), message);
END $$;

-- Whoever may change a table must be able to tell; a reporting role needs no more than that.
CREATE FUNCTION tell_all() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM pg_notify('authproxy_' || left(encode(sha256(convert_to(TG_TABLE_SCHEMA, 'UTF8')), 'hex'), 32), '*');
  RETURN NULL;
END $$;

CREATE FUNCTION tell_session_delete() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- The sweeper deletes only what is over, and says so.
  IF current_setting('authproxy.sweeping', true) = 'on' THEN
    RETURN NULL;
  END IF;
  EXECUTE format('SELECT %I.tell_changes($1, $2, $3)', TG_TABLE_SCHEMA)
    USING 's', TG_TABLE_SCHEMA::text, ARRAY(SELECT id FROM old_rows LIMIT 101);
  RETURN NULL;
END $$;

CREATE FUNCTION tell_session_update() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- A touch moves lastSeenAt and expiresAt forward, and updatedAt: nothing that a cache
  -- would have to know at once.
  EXECUTE format('SELECT %I.tell_changes($1, $2, $3)', TG_TABLE_SCHEMA)
    USING 's', TG_TABLE_SCHEMA::text, ARRAY(
      SELECT o.id FROM old_rows o LEFT JOIN new_rows n ON n.id = o.id
      WHERE n.id IS NULL OR n."expiresAt" < o."expiresAt" OR n."lastSeenAt" < o."lastSeenAt"
        OR (n.token, n."userId", n."absoluteExpiresAt", n."ipAddress", n."userAgent", n."providerId", n.issuer, n.subject,
            n."idpSid", n."authTime", n.amr, n.acr, n.epoch, n."impersonatedBy", n.data, n."createdAt")
           IS DISTINCT FROM
           (o.token, o."userId", o."absoluteExpiresAt", o."ipAddress", o."userAgent", o."providerId", o.issuer, o.subject,
            o."idpSid", o."authTime", o.amr, o.acr, o.epoch, o."impersonatedBy", o.data, o."createdAt")
      LIMIT 101);
  RETURN NULL;
END $$;

CREATE FUNCTION tell_credential_update() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- Not told: a lock for refreshing, and a token that was sealed with another key.
  EXECUTE format('SELECT %I.tell_changes($1, $2, $3)', TG_TABLE_SCHEMA)
    USING 's', TG_TABLE_SCHEMA::text, ARRAY(
      SELECT o."sessionId" FROM old_rows o LEFT JOIN new_rows n ON n."sessionId" = o."sessionId"
      WHERE n."sessionId" IS NULL
        OR (n.version, n."expiresAt", n."idTokenExpiresAt", n."refreshAt", n."readAt",
            n."accessToken" IS NULL, n."refreshToken" IS NULL, n."idToken" IS NULL)
           IS DISTINCT FROM
           (o.version, o."expiresAt", o."idTokenExpiresAt", o."refreshAt", o."readAt",
            o."accessToken" IS NULL, o."refreshToken" IS NULL, o."idToken" IS NULL)
      LIMIT 101);
  RETURN NULL;
END $$;

CREATE FUNCTION tell_user_delete() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  EXECUTE format('SELECT %I.tell_changes($1, $2, $3)', TG_TABLE_SCHEMA)
    USING 'u', TG_TABLE_SCHEMA::text, ARRAY(SELECT id FROM old_rows LIMIT 101);
  RETURN NULL;
END $$;

CREATE FUNCTION tell_user_update() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  EXECUTE format('SELECT %I.tell_changes($1, $2, $3)', TG_TABLE_SCHEMA)
    USING 'u', TG_TABLE_SCHEMA::text, ARRAY(
      SELECT o.id FROM old_rows o LEFT JOIN new_rows n ON n.id = o.id
      WHERE n.id IS NULL
        OR (n.name, n.email, n."emailVerified", n.image, n.username, n.role, n.groups, n.claims,
            n.banned, n."banExpires", n."sessionEpoch")
           IS DISTINCT FROM
           (o.name, o.email, o."emailVerified", o.image, o.username, o.role, o.groups, o.claims,
            o.banned, o."banExpires", o."sessionEpoch")
      LIMIT 101);
  RETURN NULL;
END $$;

CREATE TRIGGER tell_delete AFTER DELETE ON session
  REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION tell_session_delete();
CREATE TRIGGER tell_update AFTER UPDATE ON session
  REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tell_session_update();
CREATE TRIGGER tell_truncate AFTER TRUNCATE ON session FOR EACH STATEMENT EXECUTE FUNCTION tell_all();

CREATE TRIGGER tell_update AFTER UPDATE ON session_credential
  REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tell_credential_update();
CREATE TRIGGER tell_truncate AFTER TRUNCATE ON session_credential FOR EACH STATEMENT EXECUTE FUNCTION tell_all();

CREATE TRIGGER tell_delete AFTER DELETE ON "user"
  REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION tell_user_delete();
CREATE TRIGGER tell_update AFTER UPDATE ON "user"
  REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tell_user_update();
CREATE TRIGGER tell_truncate AFTER TRUNCATE ON "user" FOR EACH STATEMENT EXECUTE FUNCTION tell_all();

-- ALWAYS: also for what logical replication applies, and under session_replication_role.
ALTER TABLE session ENABLE ALWAYS TRIGGER tell_delete;
ALTER TABLE session ENABLE ALWAYS TRIGGER tell_update;
ALTER TABLE session ENABLE ALWAYS TRIGGER tell_truncate;
ALTER TABLE session_credential ENABLE ALWAYS TRIGGER tell_update;
ALTER TABLE session_credential ENABLE ALWAYS TRIGGER tell_truncate;
ALTER TABLE "user" ENABLE ALWAYS TRIGGER tell_delete;
ALTER TABLE "user" ENABLE ALWAYS TRIGGER tell_update;
ALTER TABLE "user" ENABLE ALWAYS TRIGGER tell_truncate;
