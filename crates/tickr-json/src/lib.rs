//! JSON bodies for tickr messages
