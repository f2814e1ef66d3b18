//! What is under test.

use crate::world::World;

/// The report says which storage in which version was tested.
#[allow(clippy::print_stdout, reason = "the test report reads this line")]
pub async fn report(world: World) {
    let version = world.version().await;
    assert!(!version.trim().is_empty(), "the harness names no version");
    println!("storage-version: {} {version}", world.capabilities().name);
}
