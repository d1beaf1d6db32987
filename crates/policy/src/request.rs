//! A request as decisions see it. Every engine (HTTP/1.1 now, others later) lends its own head through this view, so
//! that no decision knows an engine's types.

/// The head of a request. Values are as they were sent; what a decision has to normalise, it normalises itself.
pub trait RequestView {
    /// The method, such as `GET`.
    fn method(&self) -> &[u8];
    /// The host as it was sent: any case, perhaps with a port; empty if there was none.
    fn host(&self) -> &[u8];
    /// The path as it was sent, without the query.
    fn path(&self) -> &[u8];
    /// The first value of a header, by its name in lower case.
    fn header(&self, lower_name: &str) -> Option<&[u8]>;
}
