/* kvbench: load for kvd, etcd and redis in the same manner. */
#include "client/kvbench/load.h"
#include "client/kvbench/options.h"
#include "client/kvbench/rates.h"

int main(int argc, char **argv)
{
    struct options options;

    options_parse(&options, argc, argv);
    return options.load->run ? options.load->run(&options) : rates_run(&options);
}
