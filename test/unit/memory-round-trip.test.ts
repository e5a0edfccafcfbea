import { describe, expect, it } from "vitest";
import type { LearnAnswer } from "../../node/memory/learn.ts";
import type { RecallAnswer } from "../../node/memory/recalled.ts";
import type { RememberAnswer } from "../../node/memory/remember.ts";
import { Memory } from "./memory-fixture.ts";

describe("learning and recalling", () => {
  it("recalls a learnt turn with its words, its concepts and a text for a prompt", async () => {
    const memory = await Memory.open();
    const learnt = memory.write<LearnAnswer>("learn", {
      user_message: "Which database should Project Falcon use?",
      ai_response: "I decided to use LevelDB for Project Falcon because it needs no server.",
    });
    expect(learnt).toMatchObject({ tenant_id: "alice", decisions_detected: 1, compounds_found: 0 });
    expect(learnt.concepts).toEqual(expect.arrayContaining(["LevelDB", "Project Falcon"]));
    expect(learnt.concepts_extracted).toBe(learnt.concepts.length);
    expect(learnt.links_created).toBe(1);
    const answer = memory.read<RecallAnswer>("recall", { message: "What did we choose for project falcon?" });
    expect(answer.memories[0]).toMatchObject({ id: learnt.turn_id, kind: "turn", session_id: null, node: "node-1" });
    expect(answer.context).toContain("I decided to use LevelDB");
    expect(answer.concepts[0]).toMatchObject({ name: "Project Falcon", kind: "project", score: 1 });
    expect(answer.concepts_found).toBe(answer.concepts.length);
    expect(answer.relationships_found).toBe(answer.links.length);
  });

  it("finds a fact that shares no word with the question over the name it shares with one that does", async () => {
    const memory = await Memory.open();
    const fill = ["Oslo", "Lima", "Quito", "Perth", "Turin", "Osaka"];
    for (const city of fill) memory.write("remember", { entity: city, content: `${city} has a harbour and a cathedral.` });
    memory.write("remember", { entity: "Hello Love", content: "Hello Love is a song recorded by Hank Snow." });
    const bridge = memory.write<RememberAnswer>("remember", { entity: "Hank Snow", content: "Hank Snow died at Nashville in old age." });
    const answer = memory.read<RecallAnswer>("recall", { message: "Who performed Hello Love?" });
    const found = answer.memories.find(({ id }) => id === bridge.id);
    expect(found?.why.words).toEqual([]);
    expect(found?.why.through?.concept).toBe("hank snow");
    expect(answer.links[0]).toMatchObject({ source: "Hello Love", target: "Hank Snow", strength: 0.15 });
  });

  it("answers nothing, not anything, when nothing fits", async () => {
    const memory = await Memory.open();
    memory.write("remember", { entity: "Oslo", content: "Oslo lies at a fjord." });
    const answer = memory.read<RecallAnswer>("recall", { message: "xylophone" });
    expect(answer).toMatchObject({ context: "", memories: [], concepts: [], links: [] });
  });
});
