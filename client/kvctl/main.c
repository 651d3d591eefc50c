#include "client/kvctl/kvctl.h"

#include <signal.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    /* A reader that went away shows as a failed write. */
    signal(SIGPIPE, SIG_IGN);
    return kvctl_main(argc, (const char *const *)argv, getenv("KVCTL_ENDPOINTS"), stdout, stderr);
}
