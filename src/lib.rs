//! Evenkeel as a library: what the `evenkeel` command is made of. [`app`] puts the parts together and runs them;
//! [`config`] is the file as it is written and as it is meant; [`discovery`] finds endpoints while it runs; [`cli`] has one file per command; [`demo`] shows it all.

pub mod app;
pub mod cli;
pub mod config;
pub mod demo;
pub mod discovery;
mod limits;
mod operate;
pub mod overrides;
mod views;
