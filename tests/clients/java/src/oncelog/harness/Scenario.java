package oncelog.harness;

/**
 * One scenario: a claim about the broker and the code that tries it.
 *
 * @param name   suite/claim, by which it is chosen on the command line
 * @param needs  what it needs beyond a broker's address
 * @param body   throws unless the claim holds
 */
public record Scenario(String name, Needs needs, Body body) {
    /** What a scenario needs. */
    public enum Needs {
        /** Any broker, shared with other scenarios that run at the same time. */
        BROKER,
        /** Brokers that it may kill; skipped when the suite was given a running broker. */
        OWN_BROKER,
        /** Any broker, and the JVM for itself, since it takes over the standard streams. */
        ALONE,
        /** Both of the above. */
        OWN_BROKER_ALONE;

        /** Whether the scenario starts brokers itself. */
        public boolean ownBroker() {
            return this == OWN_BROKER || this == OWN_BROKER_ALONE;
        }

        /** Whether nothing may run beside it. */
        public boolean alone() {
            return this == ALONE || this == OWN_BROKER_ALONE;
        }
    }

    /** The code of a scenario. */
    public interface Body {
        void run(Context context) throws Exception;
    }
}
