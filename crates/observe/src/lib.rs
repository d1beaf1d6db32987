//! What Evenkeel shows of itself to a metrics scraper: the registry of parts, the text formats, and the process's own
//! figures. Counting happens where the work is done (`kernel::metrics`); this crate only reads and writes it out.
//! It knows no plane, opens no socket and keeps no history.

pub mod catalogue;
pub mod process;
pub mod registry;
pub mod text;

pub use catalogue::Described;
pub use process::Process;
pub use registry::Registry;
pub use text::Format;
