"""Word problems in other languages, and single words translated."""

from templates import REGISTRY, Template

# name -> (split, question, answer) with numbers a, b and results s = a + b, p = a * b, d = b - a (b > a)
PROBLEMS = {
    "fr_pommes": ("train", "Marie a {a} pommes et en achète {b}. Combien de pommes a-t-elle ?",
        "{a} + {b} = {s}. La réponse est {s}."),
    "fr_livres": ("train", "Un livre coûte {a} euros. Combien coûtent {b} livres ?",
        "{a} * {b} = {p}. La réponse est {p}."),
    "de_kugeln": ("train", "Jan hat {b} Kugeln und verliert {a}. Wie viele hat er noch?",
        "{b} - {a} = {d}. Die Antwort ist {d}."),
    "de_kisten": ("train", "In {a} Kisten liegen je {b} Flaschen. Wie viele Flaschen sind es?",
        "{a} * {b} = {p}. Die Antwort ist {p}."),
    "es_lapices": ("train", "Luis tiene {a} lápices y Ana tiene {b}. ¿Cuántos tienen juntos?",
        "{a} + {b} = {s}. La respuesta es {s}."),
    "es_filas": ("train", "Hay {a} filas con {b} sillas cada una. ¿Cuántas sillas hay?",
        "{a} * {b} = {p}. La respuesta es {p}."),
    "it_mele": ("train", "Giulia ha {b} mele e ne mangia {a}. Quante mele restano?",
        "{b} - {a} = {d}. La risposta è {d}."),
    "pt_carros": ("train", "Na garagem há {a} carros e chegam {b}. Quantos carros há agora?",
        "{a} + {b} = {s}. A resposta é {s}."),
    "nl_fietsen": ("train", "Er staan {b} fietsen en er rijden {a} weg. Hoeveel blijven er?",
        "{b} - {a} = {d}. Het antwoord is {d}."),
    "sw_maembe": ("train", "Juma ana maembe {a}. Anapata maembe {b} zaidi. Ana maembe mangapi?",
        "{a} + {b} = {s}. Jibu ni {s}."),
    "ru_knigi": ("train", "У Ивана {a} книг, у Анны {b}. Сколько книг вместе?", "{a} + {b} = {s}. Ответ: {s}."),
    "zh_pingguo": ("train", "小明有{a}个苹果，又买了{b}个。一共有几个？", "{a} + {b} = {s}。答案是{s}。"),
    "ja_hon": ("validate", "本が{a}冊あります。{b}冊買いました。全部で何冊ですか。",
        "{a} + {b} = {s}。答えは{s}です。"),
    "de_bus": ("validate", "Im Bus sitzen {b} Leute, {a} steigen aus. Wie viele bleiben?",
        "{b} - {a} = {d}. Die Antwort ist {d}."),
    "pt_bolas": ("validate", "Uma caixa tem {a} bolas. Quantas bolas há em {b} caixas?",
        "{a} * {b} = {p}. A resposta é {p}."),
    "it_treno": ("test", "Sul treno ci sono {a} persone e ne salgono {b}. Quante sono adesso?",
        "{a} + {b} = {s}. La risposta è {s}."),
    "fr_tables": ("test", "Il y a {a} tables avec {b} verres chacune. Combien de verres y a-t-il ?",
        "{a} * {b} = {p}. La réponse est {p}."),
    "es_globos": ("test", "Carla tiene {b} globos y se le escapan {a}. ¿Cuántos le quedan?",
        "{b} - {a} = {d}. La respuesta es {d}."),
}  # fmt: skip

# name -> (split, language, {English: translation})
WORDS = {
    "to_french": ("train", "French", {
        "bread": "pain", "water": "eau", "house": "maison", "tree": "arbre", "night": "nuit",
        "friend": "ami", "milk": "lait", "winter": "hiver", "book": "livre"}),
    "to_german": ("train", "German", {
        "bread": "Brot", "water": "Wasser", "house": "Haus", "tree": "Baum", "night": "Nacht",
        "friend": "Freund", "milk": "Milch", "winter": "Winter", "book": "Buch"}),
    "to_spanish": ("train", "Spanish", {
        "bread": "pan", "water": "agua", "house": "casa", "tree": "árbol", "night": "noche",
        "friend": "amigo", "milk": "leche", "winter": "invierno", "book": "libro"}),
    "to_italian": ("validate", "Italian", {
        "bread": "pane", "water": "acqua", "house": "casa", "tree": "albero", "night": "notte",
        "friend": "amico"}),
    "to_portuguese": ("test", "Portuguese", {
        "bread": "pão", "water": "água", "house": "casa", "tree": "árvore", "night": "noite",
        "friend": "amigo"}),
}  # fmt: skip


def _problem(question: str, answer: str):
    def draw(rng):
        a = rng.randint(2, 12)
        b = a + rng.randint(2, 25)
        slots = {"a": a, "b": b, "s": a + b, "p": a * b, "d": b - a}
        return question.format(**slots), answer.format(**slots)

    return draw


def _word(language: str, table: dict[str, str]):
    def draw(rng):
        english = rng.choice(sorted(table))
        wording = rng.choice(["Translate '{}' into {}.", "What is the {1} word for '{0}'?"])
        return wording.format(english, language), f"'{english}' in {language} is '{table[english]}'."

    return draw


for _name, (_split, _question, _answer) in PROBLEMS.items():
    REGISTRY[_name] = Template(_name, "multilingual", _split, _problem(_question, _answer))
for _name, (_split, _language, _table) in WORDS.items():
    REGISTRY[_name] = Template(_name, "translation", _split, _word(_language, _table))
