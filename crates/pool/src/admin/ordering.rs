//! What an administrator's orders become: [`Order`]s to pools. A name is a pool's, or that of a database if it is the only
//! one of its pool that anybody has asked for.

use super::AdminNode;
use super::answer::Done;
use super::command::{Command, Refusal};
use crate::orders::{Order, OrderError};
use crate::view::PoolView;

/// The word that begins the command.
pub(super) const fn word(command: &Command) -> &'static str {
    match command {
        Command::Pause(_) => "PAUSE",
        Command::Resume(_) => "RESUME",
        Command::Kill(_) => "KILL",
        Command::KillClient(_) => "KILL_CLIENT",
        Command::Reconnect(_) => "RECONNECT",
        Command::Reload => "RELOAD",
        _ => "it",
    }
}

/// Carries out an order, for somebody who may give it.
pub(super) fn run(command: &Command, node: &dyn AdminNode) -> Result<Done, Refusal> {
    match command {
        Command::Pause(name) => {
            let pools = names(&meant(name.as_deref(), command, node)?);
            pools.iter().try_for_each(|pool| order(node, pool, &Order::Pause))?;
            return Ok(Done::Pausing(pools));
        }
        Command::Resume(name) => {
            let pools = meant(name.as_deref(), command, node)?;
            let paused: Vec<_> = pools.iter().filter(|pool| pool.is_paused).collect();
            if paused.is_empty() {
                let what = name.as_ref().map_or("no pool is".to_owned(), |name| format!("{name} is not"));
                return Err(Refusal::new("55000", format!("{what} paused")));
            }
            paused.iter().try_for_each(|pool| order(node, &pool.name, &Order::Resume))?;
        }
        Command::Kill(name) => {
            for pool in names(&meant(name.as_deref(), command, node)?) {
                order(node, &pool, &Order::Pause)?;
                for client in node.clients().iter().filter(|client| client.pool == pool) {
                    match node.order(&pool, &Order::KillClient(client.id)) {
                        // It has left by itself.
                        Ok(()) | Err(OrderError::Nothing(_)) => {}
                        Err(error) => return Err(refused(&error)),
                    }
                }
                order(node, &pool, &Order::Reconnect)?;
            }
        }
        Command::KillClient(id) => {
            let clients = node.clients();
            let client = clients.iter().find(|client| client.id == *id);
            let client = client.ok_or_else(|| Refusal::new("42704", format!("there is no client {id}")))?;
            order(node, &client.pool, &Order::KillClient(*id))?;
        }
        Command::Reconnect(name) => {
            for pool in names(&meant(name.as_deref(), command, node)?) {
                order(node, &pool, &Order::Reconnect)?;
            }
        }
        Command::Reload => node.reload().map_err(|why| {
            Refusal::new("F0000", format!("the configuration is not taken over: {why}"))
                .hint("`evenkeel check` says all that is wrong with it.")
        })?,
        _ => {}
    }
    Ok(Done::Tag(word(command), None))
}

fn order(node: &dyn AdminNode, pool: &str, order: &Order) -> Result<(), Refusal> {
    node.order(pool, order).map_err(|error| refused(&error))
}

fn refused(error: &OrderError) -> Refusal {
    let sqlstate = match error {
        OrderError::NoPool(_) | OrderError::NoServer { .. } | OrderError::Nothing(_) => "42704",
        OrderError::Refused(_) => "55000",
    };
    Refusal::new(sqlstate, error.to_string())
}

fn names(pools: &[PoolView]) -> Vec<String> {
    pools.iter().map(|pool| pool.name.clone()).collect()
}

/// The pools that are meant: all of them, if there is no name.
fn meant(name: Option<&str>, command: &Command, node: &dyn AdminNode) -> Result<Vec<PoolView>, Refusal> {
    let mut pools = node.pools();
    let Some(name) = name else { return Ok(pools) };
    if pools.iter().any(|pool| pool.name == name) {
        pools.retain(|pool| pool.name == name);
        return Ok(pools);
    }
    pools.retain(|pool| pool.groups.iter().any(|group| group.database == name));
    if pools.is_empty() {
        return Err(Refusal::new("3D000", format!("there is no pool and no database named {name}")));
    }
    match pools.iter().find(|pool| pool.groups.iter().any(|group| group.database != name)) {
        Some(shared) => {
            let (word, pool) = (word(command), &shared.name);
            let message = format!("{name} shares pool {pool} with other databases");
            Err(Refusal::new("55000", message).hint(format!("{word} {pool} is for all of them.")))
        }
        None => Ok(pools),
    }
}
