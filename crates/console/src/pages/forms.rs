//! What an operator can do about a service: each action is a form with a field for the reason; nothing needs a script.
//! These parts of a page are never replaced while it is open, because a reason that is being typed would be lost.

use maud::{Markup, html};

use super::parts::state_word;
use crate::actions::{endpoint_path, service_path};
use crate::guard::CSRF_FIELD;
use crate::pool_actions::pool_path;
use crate::pool_status::PoolStatus;
use crate::status::{EndpointStatus, ServiceStatus};
use crate::view::{EndpointAction, EndpointState, ServiceAction};

use kernel::overrides::MAX_REASON_CHARS;

/// Taking endpoints out and back in.
pub(crate) fn endpoint_actions(service: &ServiceStatus, csrf: &str) -> Markup {
    html! {
        section class="card config" aria-labelledby="take-out" {
            h2 id="take-out" { "Take endpoints out, or back in" }
            p class="note" {
                "Drained: no new requests, those in flight are finished. Down: the same, and it counts as failed. Both \
                 hold until somebody resumes it, through restarts as well."
            }
            @for endpoint in &service.endpoints { (endpoint_form(service, endpoint, csrf)) }
        }
    }
}

fn endpoint_form(service: &ServiceStatus, endpoint: &EndpointStatus, csrf: &str) -> Markup {
    let (name, state) = (&endpoint.traffic.name, endpoint.state);
    let path = |action| endpoint_path(&service.traffic.name, name, action);
    let offered = EndpointAction::ALL.into_iter().filter(|action| match action {
        EndpointAction::Drain => !matches!(state, EndpointState::Draining | EndpointState::Drained),
        EndpointAction::Down => state != EndpointState::Down,
        EndpointAction::Resume => state.is_taken_out(),
    });
    let is_last = !state.is_taken_out() && service.depends_on(endpoint);
    html! {
        form method="post" class="act" {
            input type="hidden" name=(CSRF_FIELD) value=(csrf);
            span class="who" { (name) " " (state_word(state)) }
            (reason_field(&format!("Reason for {name}")))
            @if is_last { (force_box("although no other endpoint takes requests")) }
            span class="buttons" {
                @for action in offered {
                    // Going back to normal needs no reason.
                    button type="submit" formaction=(path(action)) formnovalidate[action == EndpointAction::Resume] {
                        (title(action))
                    }
                }
            }
        }
    }
}

fn title(action: EndpointAction) -> &'static str {
    match action {
        EndpointAction::Drain => "Drain",
        EndpointAction::Resume => "Resume",
        EndpointAction::Down => "Take down",
    }
}

fn reason_field(label: &str) -> Markup {
    html! {
        input type="text" name="reason" required maxlength=(MAX_REASON_CHARS) autocomplete="off"
            placeholder="Reason" aria-label=(label);
    }
}

fn force_box(text: &str) -> Markup {
    html! { label class="force" { input type="checkbox" name="force" value="true"; " " (text) } }
}

/// Switching tiers.
pub(crate) fn tier_actions(service: &ServiceStatus, csrf: &str) -> Markup {
    let tiers: std::collections::BTreeSet<u8> = service.endpoints.iter().map(|e| e.tier).collect();
    let failover = service_path(&service.traffic.name, ServiceAction::Failover { tier: None });
    let failback = service_path(&service.traffic.name, ServiceAction::Failback);
    let is_usable = |tier: u8| service.endpoints.iter().any(|e| e.tier == tier && e.state.is_in_use());
    let others: Vec<u8> = tiers.into_iter().filter(|tier| service.forced_tier != Some(*tier)).collect();
    let next = others.iter().copied().find(|tier| *tier > service.active_tier).or(others.first().copied());
    let all_usable = others.iter().all(|tier| is_usable(*tier));
    html! {
        section class="card config" aria-labelledby="switch" {
            h2 id="switch" { "Switch to another tier" }
            p class="note" { "Then only endpoints of that tier take requests, until somebody lets the node choose again." }
            form method="post" action=(failover) class="act" {
                input type="hidden" name=(CSRF_FIELD) value=(csrf);
                select name="tier" aria-label="Tier" {
                    @for tier in others {
                        option value=(tier) selected[Some(tier) == next] {
                            "Tier " (tier)
                            @if tier == service.active_tier { " (in use)" }
                            @else if !is_usable(tier) { " (nothing healthy)" }
                        }
                    }
                }
                (reason_field("Reason for the switch"))
                @if !all_usable { (force_box("although nothing in that tier is healthy")) }
                span class="buttons" { button type="submit" { "Fail over" } }
            }
            @if service.forced_tier.is_some() {
                form method="post" action=(failback) class="act" {
                    input type="hidden" name=(CSRF_FIELD) value=(csrf);
                    (reason_field("Reason for the return"))
                    span class="buttons" { button type="submit" formnovalidate { "Let the node choose" } }
                }
            }
        }
    }
}

/// What can be done to a pool.
pub(crate) fn pool_actions(pool: &PoolStatus, csrf: &str) -> Markup {
    let path = |action: &str| pool_path(&pool.name, action);
    let hidden = || html! { input type="hidden" name=(CSRF_FIELD) value=(csrf); };
    html! {
        section class="card config" aria-labelledby="orders" {
            h2 id="orders" { "Pause it, or move it" }
            p class="note" {
                "Paused: transactions that have not begun wait, those that have go on. Drained: a server gets no new \
                 transactions. All of it holds until it is taken back or the process ends."
            }
            form method="post" class="act" {
                (hidden())
                span class="who" { (pool.name) }
                (reason_field(&format!("Reason for {}", pool.name)))
                span class="buttons" {
                    @if pool.is_paused {
                        button type="submit" formaction=(path("resume")) formnovalidate { "Resume" }
                    } @else {
                        button type="submit" formaction=(path("pause")) { "Pause" }
                    }
                    button type="submit" formaction=(path("reconnect")) formnovalidate { "Reconnect" }
                }
            }
            @if pool.servers.len() > 1 {
                form method="post" action=(path("failover")) class="act" {
                    (hidden())
                    select name="to" aria-label="Server" {
                        option value="" { "To whichever is primary" }
                        @for server in pool.servers.iter().filter(|server| Some(&server.name) != pool.primary.as_ref()) {
                            option value=(server.name) { "To " (server.name) " (" (server.role) ")" }
                        }
                    }
                    (reason_field("Reason for the failover"))
                    span class="buttons" { button type="submit" { "Fail over" } }
                }
            }
            @for server in &pool.servers {
                form method="post" class="act" {
                    (hidden())
                    input type="hidden" name="server" value=(server.name);
                    span class="who" { (server.name) " " (server.role) }
                    (reason_field(&format!("Reason for {}", server.name)))
                    span class="buttons" {
                        @if server.role == "drained" {
                            button type="submit" formaction=(path("undrain")) formnovalidate { "Let it back in" }
                        } @else {
                            button type="submit" formaction=(path("drain")) { "Drain" }
                        }
                    }
                }
            }
            form method="post" action=(path("kill")) class="act" {
                (hidden())
                span class="who" { "Clients of a user" }
                input type="text" name="user" required autocomplete="off" placeholder="User" aria-label="User";
                (reason_field("Reason for sending clients away"))
                span class="buttons" { button type="submit" { "Send away" } }
            }
            form method="post" action=(path("kill")) class="act" {
                (hidden())
                span class="who" { "Statements of a shape" }
                input type="text" name="statement" required autocomplete="off" placeholder="Fingerprint" aria-label="Fingerprint";
                (reason_field("Reason for cancelling statements"))
                span class="buttons" { button type="submit" { "Cancel" } }
            }
        }
    }
}
