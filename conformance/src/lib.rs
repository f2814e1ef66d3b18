//! Conformance suite that every tickr storage must pass
