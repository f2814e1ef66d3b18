//! The engine on [`MemoryStorage`]: what a handler, a worker and an operator may rely on.

mod engine {
    mod work;
}
