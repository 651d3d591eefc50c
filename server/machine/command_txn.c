/* Transactions: compares, then one of two lists of operations. Each operation is a command that
 * runs on the machine as it is by then, so it sees what earlier ones wrote; what is changed takes
 * one revision, and is taken back as a whole by the caller when one of them fails (savepoint.c).
 *
 * A transaction within one is an operation like others. How deep they go is checked before anything
 * looks into them, so the recursion here is bounded by KV_TXN_DEPTH_MAX. */
#include "server/machine/command.h"

#include <stdio.h>

/* Of one reply within the list of them. */
enum { REPLY_OVERHEAD_BYTES = 8 };

/* ---------------------------------------------------------------- without the state */

/* Says where in the transaction the error is; what does not fit of the message goes. */
static void prefix_error(struct kv_error *ret_error, const char *what, size_t i)
{
    const struct kv_error inner = *ret_error;

    (void)snprintf(ret_error->message,
                   sizeof ret_error->message,
                   "%s %zu: %.*s",
                   what,
                   i,
                   KV_ERROR_MESSAGE_SIZE / 2,
                   inner.message);
}

typedef bool (*is_one_fn)(const struct kv_command *command, const Kv__Request *operation);

static bool any_in(Kv__Request *const *operations, size_t n, unsigned depth, is_one_fn is_one);

static bool any_operation(const Kv__Txn *txn, unsigned depth, is_one_fn is_one)
{
    return any_in(txn->then, txn->n_then, depth, is_one) ||
           any_in(txn->otherwise, txn->n_otherwise, depth, is_one);
}

/* What is deeper than allowed is refused by the validation: nothing needs to be known of it. */
static bool any_in(Kv__Request *const *operations, size_t n, unsigned depth, is_one_fn is_one)
{
    for (size_t i = 0; i < n && depth <= KV_TXN_DEPTH_MAX; i++) {
        const struct kv_command *command = kv_command_find(operations[i]);

        if (operations[i]->command_case == KV__REQUEST__COMMAND_TXN) {
            if (any_operation(operations[i]->txn, depth + 1, is_one)) {
                return true;
            }
        } else if (command && is_one(command, operations[i])) {
            return true;
        }
    }
    return false;
}

static bool is_write(const struct kv_command *command, const Kv__Request *operation)
{
    return kv_command_class_of(command, operation) == KV_COMMAND_WRITE;
}

static bool grows(const struct kv_command *command, const Kv__Request *operation)
{
    (void)operation;
    return command->grows;
}

bool kv_txn_writes(const Kv__Txn *txn)
{
    return any_operation(txn, 1, is_write);
}

bool kv_txn_grows(const Kv__Txn *txn)
{
    return any_operation(txn, 1, grows);
}

struct check {
    const struct kv_machine_settings *settings;
    size_t n_operations;
    struct kv_error *ret_error;
};

static int check_txn(struct check *check, const Kv__Txn *txn, unsigned depth);

static int check_operation(struct check *check, const Kv__Request *operation, unsigned depth)
{
    const struct kv_command *command = kv_command_find(operation);

    if (operation->command_case == KV__REQUEST__COMMAND__NOT_SET) {
        return kv_error_set(check->ret_error, KV_INVALID, "it names no command");
    }
    if (operation->id || operation->deadline_ms || operation->serializable || operation->session) {
        return kv_error_set(check->ret_error,
                            KV_INVALID,
                            "id, deadline, session and serializable are the whole request's: only "
                            "the command may be set");
    }
    if (!command) {
        return kv_error_set(
            check->ret_error, KV_UNSUPPORTED, "this server does not support the command yet");
    }
    if (!command->in_txn || kv_command_is_stream(kv_command_classify(operation))) {
        return kv_error_set(
            check->ret_error, KV_INVALID, "this command may not be in a transaction");
    }
    if (operation->command_case == KV__REQUEST__COMMAND_TXN) {
        return check_txn(check, operation->txn, depth + 1);
    }
    return command->validate(operation, check->settings, check->ret_error);
}

static int check_branch(
    struct check *check, Kv__Request *const *operations, size_t n, unsigned depth, const char *what)
{
    int status = 0;

    check->n_operations += n;
    if (check->n_operations > KV_TXN_OPERATIONS_MAX) {
        return kv_error_set(check->ret_error,
                            KV_TOO_LARGE,
                            "the transaction has more than %u operations",
                            KV_TXN_OPERATIONS_MAX);
    }
    for (size_t i = 0; i < n && status == 0; i++) {
        status = check_operation(check, operations[i], depth);
        if (status != 0) {
            prefix_error(check->ret_error, what, i);
        }
    }
    return status;
}

static int check_txn(struct check *check, const Kv__Txn *txn, unsigned depth)
{
    int status = 0;

    if (depth > KV_TXN_DEPTH_MAX) {
        return kv_error_set(check->ret_error,
                            KV_INVALID,
                            "transactions are nested deeper than %u",
                            KV_TXN_DEPTH_MAX);
    }
    for (size_t i = 0; i < txn->n_compares && status == 0; i++) {
        status = kv_check_compare(txn->compares[i], check->ret_error);
        if (status != 0) {
            prefix_error(check->ret_error, "compare", i);
        }
    }
    if (status == 0) {
        status = check_branch(check, txn->then, txn->n_then, depth, "operation");
    }
    if (status == 0) {
        status =
            check_branch(check, txn->otherwise, txn->n_otherwise, depth, "operation of otherwise");
    }
    return status;
}

int kv_validate_txn(const Kv__Request *request,
                    const struct kv_machine_settings *settings,
                    struct kv_error *ret_error)
{
    struct check check = {.settings = settings, .ret_error = ret_error};

    return check_txn(&check, request->txn, 1);
}

/* ---------------------------------------------------------------- the run */

static int evaluate(struct kv_machine *machine,
                    const Kv__Txn *txn,
                    struct kv_answer *answer,
                    bool *ret_succeeded)
{
    int status = 0;

    *ret_succeeded = true;
    for (size_t i = 0; i < txn->n_compares && *ret_succeeded && status == 0; i++) {
        status = kv_compare(machine, txn->compares[i], answer, ret_succeeded);
        if (status != 0) {
            prefix_error(&answer->error, "compare", i);
        }
    }
    return status;
}

/* One command on the machine as it is now. Its answer has memory of its own: those of other
 * operations are still needed. */
static int run_operation(struct kv_machine *machine,
                         const Kv__Request *operation,
                         uint64_t *room,
                         struct kv_answer *answer)
{
    const struct kv_command *command = kv_command_find(operation);
    uint64_t size;
    int status;

    kv_machine_reset_scratch(machine);
    status = command->run(machine, operation, answer);
    machine->operation++;
    if (status == 0) {
        status = kv_machine_work(machine, 1, answer);
    }
    if (status == 0) {
        status = kv_machine_check_written(machine, 0, answer);
    }
    if (status != 0) {
        return status;
    }
    answer->reply.revision = machine->revision + machine->changed;
    size = kv__reply__get_packed_size(&answer->reply) + REPLY_OVERHEAD_BYTES;
    if (size > *room) {
        return kv_reply_too_large(machine, answer, "read less in one transaction");
    }
    *room -= size;
    return 0;
}

/* The operation's error is the transaction's, and tells which one it was. */
static void take_error(struct kv_answer *answer, const struct kv_answer *failed, size_t i)
{
    answer->error = failed->error;
    prefix_error(&answer->error, "operation", i);
    answer->hint = failed->hint;
    answer->hint.operation = (uint32_t)i;
}

int kv_run_txn(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer)
{
    const Kv__Txn *txn = request->txn;
    Kv__TxnResult *result = &answer->result.txn;
    uint64_t room = kv_reply_room(machine);
    bool succeeded = false;
    Kv__Request **operations;
    int status = evaluate(machine, txn, answer, &succeeded);

    if (status != 0) {
        return status;
    }
    operations = succeeded ? txn->then : txn->otherwise;
    kv__txn_result__init(result);
    result->succeeded = succeeded;
    result->n_replies = succeeded ? txn->n_then : txn->n_otherwise;
    result->replies = kv_reply_alloc(machine, result->n_replies * sizeof(Kv__Reply *));
    for (size_t i = 0; i < result->n_replies; i++) {
        struct kv_answer *one = kv_reply_alloc(machine, sizeof *one);

        kv_answer_init(one);
        status = run_operation(machine, operations[i], &room, one);
        if (status != 0) {
            take_error(answer, one, i);
            return status;
        }
        result->replies[i] = &one->reply;
    }
    KV_ANSWER(answer, TXN, txn, txn);
    return 0;
}
