/* `kvd inspect wal|snapshot PATH`: what a node's files hold, for an operator. Nothing is changed
 * and no lock taken, so it may be done while the node runs. */
#ifndef KV_NODE_INSPECT_H
#define KV_NODE_INSPECT_H

/* The arguments behind "inspect". Prints to stdout, errors to stderr; returns the exit code: 0
 * sound, 2 usage or unreadable, 4 a newer format, or of another cluster than the directory, 5
 * damaged. */
int kv_inspect_main(int argc, char *const *argv);

#endif
