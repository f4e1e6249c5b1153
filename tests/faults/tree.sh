# A scratch worktree of what is tracked, changes that are not committed included. Sourced by `run` and `mutants`.

root=$(git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse --show-toplevel)
# A folder of its own: cargo takes two checkouts of a package for one, and what one built for fresh in the other.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/faults CARGO_TERM_COLOR=never
export CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=1
tree=$CARGO_TARGET_DIR/tree
# The optimisation of Cargo.toml pays for the long simulations only.
unoptimised=--config=profile.dev.package.bursar.opt-level=0

drop_tree() {
    git -C "$root" worktree remove --force "$tree" 2>/dev/null || true
    git -C "$root" worktree prune
}

make_tree() {
    local state
    drop_tree
    trap drop_tree EXIT
    state=$(git -C "$root" -c user.name=faults -c user.email=faults@localhost stash create)
    git -C "$root" worktree add --quiet --force --detach "$tree" "${state:-HEAD}"
}
