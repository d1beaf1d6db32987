//! The instances themselves, without a driver: what `psql` and the processes say.

use std::fs;
use std::time::Duration;

use super::*;
use crate::poll::eventually;

const LIMIT: Duration = Duration::from_secs(20);

/// What `psql` as an ordinary user over TCP comes to.
fn as_user(instance: &Instance, user: &str, password: &str, database: &str, sql: &str) -> Result<String, String> {
    let target = format!("host=127.0.0.1 port={} user={user} dbname={database} connect_timeout=5", instance.port());
    let mut psql = std::process::Command::new(instance.program("psql"));
    psql.env_clear().env("PGPASSWORD", password).env("PATH", "/usr/bin:/bin");
    let out = psql.args(["-X", "-A", "-t", "-c", sql, &target]).output().unwrap();
    let (told, failed) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    if out.status.success() { Ok(told.trim().to_owned()) } else { Err(failed.trim().to_owned()) }
}

#[test]
fn an_instance_admits_by_password_keeps_its_port_over_a_restart_and_leaves_nothing_behind() {
    let mut instance = Instance::start().unwrap();
    let (port, directory, pid) = (instance.port(), instance.socket_dir().to_owned(), instance.pid().unwrap());
    instance.create_app("app", "it's", "shop").unwrap();
    assert_eq!(as_user(&instance, "app", "it's", "shop", "select current_user").unwrap(), "app");
    let refused = as_user(&instance, "app", "its", "shop", "select 1").unwrap_err();
    assert!(refused.contains("password authentication failed"), "{refused}");
    assert!(instance.psql("select rolpassword from pg_authid where rolname = 'app'").starts_with("SCRAM-SHA-256$"));
    instance.restart_fast().unwrap();
    assert_ne!(instance.pid(), Some(pid));
    assert_eq!(instance.port(), port);
    assert_eq!(as_user(&instance, "app", "it's", "shop", "select 1").unwrap(), "1");
    instance.stop_immediate().unwrap();
    assert!(as_user(&instance, "app", "it's", "shop", "select 1").unwrap_err().contains("refused"));
    instance.start_again().unwrap();
    assert_eq!(instance.psql("select 2"), "2");
    let pid = instance.pid().unwrap();
    drop(instance);
    assert!(!directory.exists() && !fs::exists(format!("/proc/{pid}")).unwrap());
}

#[test]
fn the_function_of_the_pooler_is_in_every_database_also_in_later_ones() {
    let instance = Options::new().set("max_connections", "17").start().unwrap();
    assert_eq!(instance.psql("show max_connections"), "17");
    let sql = "create schema if not exists evenkeel; create or replace function evenkeel.one() returns int \
               language sql as 'select 1'; grant usage on schema evenkeel to evenkeel;";
    instance.setup_auth("evenkeel", "p", sql).unwrap();
    instance.create_app("app", "a", "later").unwrap();
    for database in ["postgres", "later"] {
        assert_eq!(as_user(&instance, "evenkeel", "p", database, "select evenkeel.one()").unwrap(), "1");
    }
}

#[test]
fn a_standby_follows_and_can_be_promoted() {
    let primary = Instance::start().unwrap();
    let standby = primary.standby().unwrap();
    assert_ne!(primary.port(), standby.port());
    assert_eq!(standby.psql("select pg_is_in_recovery()"), "t");
    primary.psql("create table told(what text); insert into told values ('hello');");
    eventually(LIMIT, "the standby to have the row", || {
        standby.try_psql("postgres", "select what from told").ok().filter(|row| row == "hello")
    });
    standby.promote().unwrap();
    assert_eq!(standby.psql("select pg_is_in_recovery()"), "f");
    standby.psql("insert into told values ('more')");
    let timeline = "select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";
    assert_eq!((primary.psql(timeline), standby.psql(timeline)), ("00000001".to_owned(), "00000002".to_owned()));
}

#[test]
fn a_frozen_server_answers_nobody_until_it_goes_on() {
    let instance = Instance::start().unwrap();
    instance.create_app("app", "a", "shop").unwrap();
    instance.freeze().unwrap();
    let refused = as_user(&instance, "app", "a", "shop", "select 1").unwrap_err();
    assert!(refused.contains("timeout"), "{refused}");
    instance.thaw().unwrap();
    assert_eq!(as_user(&instance, "app", "a", "shop", "select 1").unwrap(), "1");
    // A frozen one ends as well.
    instance.freeze().unwrap();
}
