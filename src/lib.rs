//! Evenkeel as a library: what the `evenkeel` command is made of. [`app`] puts the parts together and runs them;
//! [`config`] is the file as it is written and as it is meant; [`discovery`] finds endpoints while it runs; [`handover`] passes the listening sockets on to the next process; [`cli`] has one file per command; [`demo`] shows it all.

pub mod app;
pub mod cli;
pub mod config;
pub mod demo;
pub mod discovery;
pub mod handover;
mod limits;
mod listening;
mod operate;
pub mod overrides;
mod pages;
mod pool_sockets;
pub mod service_manager;
mod views;
