//! How many second tries a service may get. (Being built: the rule.)

/// The budget of a service's second tries: a share of its requests and a floor, over ten seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetRule {
    /// Second tries for each request, 0 to 1.
    pub share: f64,
    /// Second tries a second, whatever the number of requests.
    pub per_second: f64,
    /// The share that is reached, in steps, while second tries are seen to succeed; at least `share`.
    pub ceiling: f64,
}

impl Default for BudgetRule {
    fn default() -> BudgetRule {
        BudgetRule { share: 0.20, per_second: 10.0, ceiling: 0.45 }
    }
}
