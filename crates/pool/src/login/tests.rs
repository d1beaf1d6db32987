//! Both ends of a login.
