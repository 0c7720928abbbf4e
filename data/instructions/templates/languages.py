"""Word problems in ten languages, and single words translated."""

from templates import Example, Template, add
from templates.steps import drawn
from templates.word_problems import upto

CLOSING = {
    "fr": "La réponse est {}.", "de": "Die Antwort ist {}.", "es": "La respuesta es {}.", "it": "La risposta è {}.",
    "pt": "A resposta é {}.", "nl": "Het antwoord is {}.", "sw": "Jibu ni {}.", "ru": "Ответ: {}.",
    "zh": "答案是{}。", "ja": "答えは{}です。",
}  # fmt: skip
SLOTS = {"a": upto(12), "b": upto(30, 4)}

# language_name -> (split, question, expression)
PROBLEMS = {
    "fr_pommes": ("train", "Marie a {a} pommes et en achète {b}. Combien de pommes a-t-elle ?", "{a} + {b}"),
    "fr_livres": ("train", "Un livre coûte {a} euros. Combien coûtent {b} livres ?", "{a} * {b}"),
    "fr_bonbons": ("train", "Léa donne {b} bonbons à {a} enfants. Combien en reçoit chaque enfant ?", "{b} / {a}"),
    "fr_marches": ("train", "Un escalier a {b} marches. Paul en monte {a}. Combien lui en reste-t-il ?", "{b} - {a}"),
    "de_kugeln": ("train", "Jan hat {b} Kugeln und verliert {a}. Wie viele hat er noch?", "{b} - {a}"),
    "de_kisten": ("train", "In {a} Kisten liegen je {b} Flaschen. Wie viele Flaschen sind es?", "{a} * {b}"),
    "de_ernte": ("train", "Ute pflückt morgens {a} Birnen und abends {b}. Wie viele Birnen hat sie?", "{a} + {b}"),
    "de_teilen": ("train", "{b} Nüsse werden auf {a} Teller verteilt. Wie viele liegen auf jedem Teller?", "{b} / {a}"),
    "es_lapices": ("train", "Luis tiene {a} lápices y Ana tiene {b}. ¿Cuántos tienen juntos?", "{a} + {b}"),
    "es_filas": ("train", "Hay {a} filas con {b} sillas cada una. ¿Cuántas sillas hay?", "{a} * {b}"),
    "es_naranjas": ("train", "En la cesta hay {b} naranjas y se venden {a}. ¿Cuántas naranjas sobran?", "{b} - {a}"),
    "es_grupos": ("train", "Con {b} alumnos se forman grupos de {a}. ¿Cuántos grupos hay?", "{b} / {a}"),
    "it_mele": ("train", "Giulia ha {b} mele e ne mangia {a}. Quante mele restano?", "{b} - {a}"),
    "it_scatole": ("train", "Ogni scatola contiene {a} penne. Quante penne ci sono in {b} scatole?", "{a} * {b}"),
    "pt_carros": ("train", "Na garagem há {a} carros e chegam {b}. Quantos carros há agora?", "{a} + {b}"),
    "pt_paginas": ("train", "Um livro tem {b} páginas e Rui leu {a}. Quantas páginas faltam?", "{b} - {a}"),
    "nl_fietsen": ("train", "Er staan {b} fietsen en er rijden {a} weg. Hoeveel blijven er?", "{b} - {a}"),
    "nl_dozen": ("train", "In {a} dozen zitten telkens {b} eieren. Hoeveel eieren zijn dat?", "{a} * {b}"),
    "sw_maembe": ("train", "Juma ana maembe {a}. Anapata maembe {b} zaidi. Ana maembe mangapi?", "{a} + {b}"),
    "sw_vikombe": ("train", "Kuna vikombe {b} mezani. Vikombe {a} vinaondolewa. Vimebaki vingapi?", "{b} - {a}"),
    "ru_knigi": ("train", "У Ивана {a} книг, у Анны {b}. Сколько книг вместе?", "{a} + {b}"),
    "ru_yashchiki": ("train", "В {a} ящиках лежит по {b} груш. Сколько всего груш?", "{a} * {b}"),
    "zh_pingguo": ("train", "小明有{a}个苹果，又买了{b}个。一共有几个？", "{a} + {b}"),
    "zh_xuesheng": ("train", "教室里有{b}个学生，走了{a}个。还有几个学生？", "{b} - {a}"),
    "ja_hon": ("validate", "本が{a}冊あります。{b}冊買いました。全部で何冊ですか。", "{a} + {b}"),
    "de_bus": ("validate", "Im Bus sitzen {b} Leute, {a} steigen aus. Wie viele bleiben?", "{b} - {a}"),
    "pt_bolas": ("validate", "Uma caixa tem {a} bolas. Quantas bolas há em {b} caixas?", "{a} * {b}"),
    "nl_koekjes": ("validate", "Tom verdeelt {b} koekjes over {a} borden. Hoeveel liggen er op elk bord?", "{b} / {a}"),
    "it_treno": ("test", "Sul treno ci sono {a} persone e ne salgono {b}. Quante sono adesso?", "{a} + {b}"),
    "fr_tables": ("test", "Il y a {a} tables avec {b} verres chacune. Combien de verres y a-t-il ?", "{a} * {b}"),
    "es_globos": ("test", "Carla tiene {b} globos y se le escapan {a}. ¿Cuántos le quedan?", "{b} - {a}"),
    "ru_konfety": ("test", "{b} конфет делят поровну на {a} детей. Сколько конфет у каждого?", "{b} / {a}"),
}  # fmt: skip

ENGLISH = "bread water house tree night friend milk winter book door window horse sun snow bridge".split()
# name -> (split, language, translations of ENGLISH)
WORDS = {
    "to_french": ("train", "French",
        "pain eau maison arbre nuit ami lait hiver livre porte fenêtre cheval soleil neige pont"),
    "to_german": ("train", "German",
        "Brot Wasser Haus Baum Nacht Freund Milch Winter Buch Tür Fenster Pferd Sonne Schnee Brücke"),
    "to_spanish": ("train", "Spanish",
        "pan agua casa árbol noche amigo leche invierno libro puerta ventana caballo sol nieve puente"),
    "to_dutch": ("train", "Dutch",
        "brood water huis boom nacht vriend melk winter boek deur raam paard zon sneeuw brug"),
    "to_italian": ("validate", "Italian",
        "pane acqua casa albero notte amico latte inverno libro porta finestra cavallo sole neve ponte"),
    "to_portuguese": ("test", "Portuguese",
        "pão água casa árvore noite amigo leite inverno livro porta janela cavalo sol neve ponte"),
}  # fmt: skip


def _problem(language: str, question: str, expression: str):
    def draw(rng):
        values, filled, equations, result = drawn(rng, expression, SLOTS)
        stop = "。" if language in ("zh", "ja") else ". "
        return Example(question.format(**values), stop.join([*equations, CLOSING[language].format(result)]), filled)

    return draw


def _word(language: str, translations: list[str]):
    def draw(rng):
        english, translated = rng.choice(list(zip(ENGLISH, translations, strict=True)))
        wording = rng.choice(["Translate '{}' into {}.", "What is the {1} word for '{0}'?"])
        return Example(wording.format(english, language), f"'{english}' in {language} is '{translated}'.")

    return draw


for _name, (_split, _question, _expression) in PROBLEMS.items():
    add(Template(_name, "multilingual", _split, _problem(_name[:2], _question, _expression)))
for _name, (_split, _language, _translations) in WORDS.items():
    add(Template(_name, "translation", _split, _word(_language, _translations.split())))
