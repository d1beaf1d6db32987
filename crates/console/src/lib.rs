//! The HTTP face of a node: the operator's console and API on `[admin]`, and the API that applications call on
//! `[api]`. It shows what it is given through the [`Node`] trait and never imports a plane: whoever assembles the
//! process turns the planes' snapshots into a [`NodeView`].
//!
//! One struct ([`status::Status`]) is rendered three ways: HTML for browsers, JSON for programs, aligned text for
//! curl. The two servers share accepting, limits and drain (`serve`), problem documents (`problem`) and tokens
//! (`token`); what separates them is who may call: `[admin]` is for operators, `[api]` never grants operator rights.

mod accept;
pub mod actions;
pub mod admin;
pub mod api;
mod assets;
mod compress;
mod deploys;
mod facts;
mod follow;
mod guard;
mod handlers;
mod journal_api;
pub mod lines;
mod live;
mod pages;
mod plain;
mod pool_actions;
mod pool_api;
mod pool_plain;
pub mod pool_status;
pub mod problem;
pub mod query;
pub mod registrar;
mod serve;
pub mod status;
mod tallies_api;
pub mod token;
pub mod view;
pub mod vitals;
mod when;
mod why_api;
pub mod why_text;
mod why_words;
pub mod words;

pub use actions::{endpoint_path, service_path};
pub use admin::{AdminServer, AdminSettings};
pub use api::{ApiServer, ApiSettings};
pub use deploys::WebhookSecret;
pub use pool_actions::pool_path;
pub use problem::{Problem, ProblemCode};
pub use registrar::Registrar;
pub use serve::Limits;
pub use status::Status;
pub use token::{NewToken, Token, TokenHash, TokenStore};
pub use view::{Node, NodeView, Readiness};
pub use vitals::Vitals;
