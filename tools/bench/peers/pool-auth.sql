-- What `evenkeel check` prints for a pool whose user is `evenkeel`: for `cargo xtask bench pool` and the tests against drivers.
CREATE SCHEMA IF NOT EXISTS evenkeel;
ALTER SCHEMA evenkeel OWNER TO CURRENT_USER;
REVOKE ALL ON SCHEMA evenkeel FROM PUBLIC;
GRANT USAGE ON SCHEMA evenkeel TO "evenkeel";
CREATE OR REPLACE FUNCTION evenkeel.user_lookup(name text, OUT usename text, OUT passwd text)
RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT rolname::text, rolpassword
  FROM pg_catalog.pg_authid
  WHERE rolname::text = $1
    AND rolcanlogin AND NOT rolsuper AND NOT rolreplication AND NOT rolbypassrls
    AND (rolvaliduntil IS NULL OR rolvaliduntil > now())
$$;
ALTER FUNCTION evenkeel.user_lookup(text) OWNER TO CURRENT_USER;
REVOKE ALL ON FUNCTION evenkeel.user_lookup(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION evenkeel.user_lookup(text) TO "evenkeel";
